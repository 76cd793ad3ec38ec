"""What ``--help`` prints: the command's own commented config, and what each group offers. No import but of the path."""

from __future__ import annotations

import re
from pathlib import Path


def help_text(name: str, conf: Path, topics: list[str]) -> str:
    """Help of the command whose primary config is ``conf/NAME.yaml``, or the commented files of config groups.

    Args:
        name: of the command.
        conf: folder of configs.
        topics: ``GROUP`` or ``GROUP=CHOICE``; what else stands on the command line is passed over.
    """
    files = [conf / group / f"{choice or 'base'}.yaml" for group, _, choice in (t.partition("=") for t in topics)]
    if files := [file for file in files if file.is_file()]:
        return "\n\n".join(f"# {file}\n{file.read_text(encoding='utf-8').rstrip()}" for file in files)
    text = (conf / f"{name}.yaml").read_text(encoding="utf-8")
    lines = [
        f"spi-{name} [KEY=VALUE ...] [GROUP=NAME ...] [--config-dir FOLDER] [--cfg job] [-m]",
        "",
        text.rstrip(),
        "",
    ]
    groups = [g for g in re.findall(r"^  - (\w+): \w+", text, flags=re.M) if g != "job"]
    for group in groups:
        names = sorted(path.stem for path in (conf / group).glob("*.yaml"))
        lines.append(f"{group}=  {', '.join(names)}    (files in {conf / group})")
    lines += [
        "",
        "--help GROUP         explain every key of a group, as in: --help simulate",
        "--help GROUP=CHOICE  show one of its files",
        "--cfg job            print the whole composed config and stop",
        "--config-dir FOLDER  look for configs of your own there too",
        "-m                   one job for each combination of comma-separated values",
        "--hydra-help         Hydra's own options",
    ]
    return "\n".join(lines)
