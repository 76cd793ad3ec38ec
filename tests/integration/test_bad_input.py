"""Whatever is fed to a command, it says in a sentence what is wrong, and leaves nothing half written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.bad_inputs import Bad, everything, feed

BAD = everything()


def test_the_battery_covers_every_command_and_no_input_twice() -> None:
    assert len(BAD) >= 60
    assert len({bad.fed for bad in BAD}) == len(BAD)
    commands = {bad.command.split()[0] for bad in BAD}
    names = ("simulate", "inspect", "train", "evaluate", "predict", "select", "report", "reproduce")
    assert {f"spi-{name}" for name in names} <= commands


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.fed)
def test_it_is_told_and_nothing_is_left(bad: Bad, made: Path, tmp_path: Path) -> None:
    answer = feed(bad, made, tmp_path)
    assert answer.status == 1, answer.stdout + answer.stderr
    _, told, message = answer.stderr.partition("error: ")
    assert told, answer.stderr
    assert [words for words in bad.says if words not in message] == []
    assert "Traceback" not in answer.stderr + answer.stdout
    assert answer.changed == ()
    assert answer.left == ()
