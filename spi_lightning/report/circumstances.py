"""Under what circumstances a run was trained, beside those of now: versions, code, machine, data."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SAME, DIFFERS, UNKNOWN = "same", "differs", "not recorded"
DATA = ("data", "labels", "truth")  # what was trained on, and judged by
MACHINE = ("system", "processor")
ARITHMETIC = ("device", "computes with", "threads", "threads of each fold")
OF_EVERY_JOB = ("device", "computes with")  # the other facts are those of the job that put the folds together
PACKAGE = re.compile(r"^diff --git a/(?:spi_lightning|hydra_plugins|conf)/", re.MULTILINE)
SHOWN = 12  # characters of a fingerprint


@dataclass(frozen=True)
class Circumstance:
    """One of them.

    Attributes:
        name: what it is.
        then: as recorded; empty where it was not.
        now: as found; empty where it is not here.
        verdict: :data:`SAME`, :data:`DIFFERS` or :data:`UNKNOWN`.
    """

    name: str
    then: str
    now: str
    verdict: str


def circumstances(
    then: Sequence[Mapping[str, Any]], now: Mapping[str, Any], same_code: bool | None
) -> list[Circumstance]:
    """Compare what jobs recorded with what is now.

    Args:
        then: of each job that took part, its ``provenance.json``; the first one's facts of the whole run count.
        now: the same facts, as they would be recorded now.
        same_code: whether the package's code is the same, see :func:`code_is_same`; None where nobody knows.
    """
    found = []
    for package in dict.fromkeys([*_names(then), *now.get("versions", {})]):
        found.append(
            _beside(package, [_part(facts, "versions", package) for facts in then], now["versions"].get(package))
        )
    commits = _distinct([facts.get("commit") for facts in then])
    verdict = UNKNOWN if same_code is None else SAME if same_code else DIFFERS
    found.append(Circumstance("code", _said(commits), _said([now.get("commit")]), verdict))
    for name in MACHINE:
        found.append(_beside(name, [_part(facts, "machine", name) for facts in then], now["machine"].get(name)))
    for name in (*ARITHMETIC, *DATA):
        known = [facts[name] for facts in then if facts.get(name) is not None]
        if name != "truth" or known or now.get(name) is not None:
            found.append(_beside(name, known if name in OF_EVERY_JOB else known[:1], now.get(name)))
    return found


def code_is_same(
    then: tuple[str | None, str | None], now: tuple[str | None, str | None], changed: Sequence[str] | None
) -> bool | None:
    """Whether what trained is what would train now.

    Args:
        then: commit of the checkout, and its uncommitted changes (a diff); None each where there were none.
        now: the same of now.
        changed: files of the package that differ between the commit of then and now; None where git cannot say.

    Returns:
        None where one of them was no checkout, so that nobody knows.
    """
    if then[0] is None or now[0] is None:
        return None
    before = _of_package(then[1])
    if then[0] == now[0] and before == _of_package(now[1]):
        return True
    return not before and changed is not None and not changed


def _of_package(difference: str | None) -> str:
    """The part of a diff that concerns the package itself."""
    parts = re.split(r"^(?=diff --git )", difference or "", flags=re.MULTILINE)
    return "".join(part.rstrip() + "\n" for part in parts if PACKAGE.match(part))


def _beside(name: str, then: Sequence[Any], now: Any) -> Circumstance:
    known = _distinct(then)
    verdict = UNKNOWN if not known or (now is None and name in DATA) else SAME if known == [now] else DIFFERS
    return Circumstance(name, _said(known), _said([now]), verdict)


def _distinct(values: Sequence[Any]) -> list[Any]:
    """Each once, in their order, without None."""
    found: list[Any] = []
    for value in values:
        if value is not None and value not in found:
            found.append(value)
    return found


def _names(then: Sequence[Mapping[str, Any]]) -> list[str]:
    return [name for facts in then if isinstance(facts.get("versions"), dict) for name in facts["versions"]]


def _part(facts: Mapping[str, Any], block: str, name: str) -> Any:
    inner = facts.get(block)
    return inner.get(name) if isinstance(inner, dict) else None


def _said(values: Sequence[Any]) -> str:
    texts = [
        ", ".join(map(str, value)) if isinstance(value, list) else str(value) for value in values if value is not None
    ]
    return " / ".join(text[:SHOWN] if re.fullmatch("[0-9a-f]{40,64}", text) else text for text in texts)
