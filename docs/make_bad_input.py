"""Writes docs/bad_input.md: what was fed to each command, and what it said.

    python docs/make_bad_input.py

runs the very list that tests/integration/test_bad_input.py runs.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.record import markdown
from tests.integration.bad_inputs import Bad, everything, feed
from tests.integration.conftest import make_small

PAGE = Path(__file__).with_name("bad_input.md")
HEAD = """# What was fed, and what was said

{number} bad inputs, over every command, as `python docs/make_bad_input.py` found it. Each command ended with exit
status 1, said what stands here, and left nothing behind but the records of the job (`status.json`, `log.txt`, …); what
was there before was as before. `tests/integration/test_bad_input.py` runs the same list, whose files are made in
`tests/integration/bad_*.py`.

"""
LONGEST = 360  # characters of a message; what a file holds, say, is cut


def main() -> None:
    """Feed everything, and write the page."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        work = Path(name).resolve()
        make_small(work / "made")
        for number, bad in enumerate(everything()):
            folder = work / str(number)
            folder.mkdir()
            answer = feed(bad, work / "made", folder)
            if answer.status != 1 or "error: " not in answer.stderr or answer.changed or answer.left:
                sys.exit(f"{bad.fed}: not refused as it should be: {answer}")
            rows.append({"fed": bad.fed, "command": _command(bad), "said": _said(answer.stderr, folder)})
            print(f"{rows[-1]['fed']}: {rows[-1]['said']}")
    PAGE.write_text(HEAD.format(number=len(rows)) + markdown(rows), encoding="utf-8")


def _command(bad: Bad) -> str:
    """The command with those settings that matter."""
    words = re.sub(r" (experiment=tiny|trainer\.threads=1|callbacks=none|run=out|workers=1)\b", "", bad.command)
    return f"`{words.removeprefix('spi-')}`"


def _said(stderr: str, folder: Path) -> str:
    """The message, without the folder of this trial and without what would be markup."""
    message = " ".join(stderr.partition("error: ")[2].replace(f"{folder}/", "").replace(str(folder), ".").split())
    short = message if len(message) <= LONGEST else f"{message[:LONGEST].rsplit(' ', 1)[0]} …"
    return re.sub(r"([<>*_`\[\]])", r"\\\1", short)


if __name__ == "__main__":
    main()
