"""What ``--help`` prints: the command's own commented config, and what each group offers. Imports hardly anything."""

from __future__ import annotations

import re
from pathlib import Path

EXPLAINING = ("base", "default", "from_file")  # the file of a group that has all its keys, with comments


def help_text(name: str, conf: Path, topics: list[str]) -> str:
    """Help of the command whose primary config is ``conf/NAME.yaml``, or the commented files of config groups.

    Args:
        name: of the command.
        conf: folder of configs.
        topics: ``GROUP`` or ``GROUP=CHOICE``; what else stands on the command line is passed over.
    """
    files = [file for topic in topics for file in _files(conf, *topic.partition("=")[::2])]
    if files:
        return "\n\n".join(f"# {file}\n{file.read_text(encoding='utf-8').rstrip()}" for file in files)
    text = (conf / f"{name}.yaml").read_text(encoding="utf-8")
    usage = f"spi-{name} [KEY=VALUE ...] [GROUP=NAME ...] [--config-dir FOLDER] [--cfg job] [-m]"
    lines = [usage, "", text.rstrip(), ""]
    for group, package in _groups(name, conf, text):
        names = sorted(path.stem for path in (conf / group).glob("*.yaml"))
        lines.append(f"{group}{package}=  {', '.join(names)}")
    launchers = ", ".join(sorted(path.stem for path in (conf / "hydra" / "launcher").glob("*.yaml")))
    lines += [
        f"hydra/launcher=  {launchers}: jobs of a sweep on a cluster",
        "",
        "--help GROUP         explain every key of a group, as in: --help simulate",
        "--help GROUP=CHOICE  show one of its files",
        "--cfg job            print the whole composed config and stop",
        "--config-dir FOLDER  look for configs of your own there too",
        "-m                   one job for each combination of comma-separated values; complete ones are not run again",
        "--hydra-help         Hydra's own options",
        f"All files are in {conf}.",
    ]
    return "\n".join(lines)


def _files(conf: Path, group: str, choice: str) -> list[Path]:
    group = group.partition("@")[0]
    if not re.fullmatch(r"\w+(/\w+)?", group) or not (conf / group).is_dir():
        return []
    wanted = [conf / group / f"{name}.yaml" for name in ([choice] if choice else EXPLAINING)]
    found = [file for file in wanted if file.is_file()]
    return found or ([] if choice else sorted((conf / group).glob("*.yaml")))


def _groups(name: str, conf: Path, text: str) -> list[tuple[str, str]]:
    """Groups that the command composes, with the place (``@...``) that those of a preset are put at."""
    groups = [(group, "") for group in re.findall(r"^  - (\w+): [\w\[]", text, flags=re.M) if group != "job"]
    base = conf / name / "base.yaml"
    preset = base.read_text(encoding="utf-8") if base.is_file() else ""
    nested = re.findall(r"^  - /(\w+)@([\w.]+): ", preset, flags=re.M)
    return groups + [(group, f"@{name}.{place}") for group, place in nested]
