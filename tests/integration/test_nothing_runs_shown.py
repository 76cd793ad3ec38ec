"""Nothing that is read becomes part of a page or of a command line."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import h5py
import jinja2
import yaml

from spi_lightning.report.page import write_page
from tests.integration.payload import ran
from tests.integration.running import run_here

SHOWN = (
    "<script>document.title='ran'</script><img src=x onerror=alert(1)><svg onload=alert(1)> {{ 'x' * 9 + 'ran' }} "
    "{% for x in ().__class__.__base__.__subclasses__() %}x{% endfor %} [a](javascript:alert(1)) "
    "![b](http://example.org/c.png) <a href='javascript:alert(1)'>d</a> </style><style>e</style>"
)


class Elements(HTMLParser):
    """Counts what a browser would act on: elements with their attributes, but for what is drawn and said."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found[tag if tag in ("script", "iframe", "svg", "style", "object", "link") else ""] += 1
        for name, value in attributes:
            if name.startswith("on") or (name in ("href", "src") and not (value or "").startswith(("data:image", "#"))):
                self.found[f"{name}={value}"] += 1


def test_nothing_that_is_read_becomes_part_of_the_page(here: Path) -> None:
    assert {"script", "svg", "onerror=alert(1)", "href=javascript:alert(1)"} <= set(Elements(SHOWN).found)
    assert "xxxxxxxxxran" in jinja2.Template(SHOWN).render()
    folder = here / "trained"
    write_page(folder)
    clean = Elements((folder / "report.html").read_text()).found
    for path in (folder / "tables").glob("*.md"):
        path.write_text(
            path.read_text() + f"\n# {SHOWN}\n\n{SHOWN}\n\n| {SHOWN} | b |\n| --- | --- |\n| c | {SHOWN} |\n"
        )
    for name in ("config.yaml", "provenance.json", "status.json"):
        reader = yaml.safe_load if name.endswith("yaml") else json.loads
        content = reader((folder / name).read_text())
        content |= {"notes": [SHOWN], "commit": SHOWN, "state": SHOWN, "data": SHOWN, "seed": SHOWN, SHOWN: SHOWN}
        (folder / name).write_text(json.dumps(content))
    for path in (folder / "tables").glob("selection*.csv"):
        quoted = '"' + SHOWN.replace('"', '""') + '"'
        path.write_text("".join(f"{line.replace('singles', quoted, 1)}\n" for line in path.read_text().splitlines()))
    with h5py.File(folder / "selection.h5", "a") as file:
        file.attrs["notes"] = json.dumps([SHOWN])
    html = write_page(folder).read_text()
    found = Elements(html).found
    assert found - clean <= Counter({"": found[""]})  # more rows and items, nothing that acts
    assert html.count("&lt;script&gt;") >= 5
    assert "xxxxxxxxxran" not in html


def test_nothing_that_is_read_becomes_part_of_the_page_of_a_sweep(here: Path) -> None:
    def page_of(word: str, folder: str) -> str:
        job = {"name": word, "folder": folder, "overrides": {word: word, "seed": word}, "state": "failed"}
        job |= {"error": word, "traceback": word, "seconds": 1.0}
        other = {**job, "name": "b", "folder": "b", "overrides": {word: "2", "seed": "2"}, "state": "missing"}
        record = {"command": word, "started": word, "ended": word, "swept": [word, "seed"], "jobs": [job, other]}
        (here / "sweep").mkdir(exist_ok=True)
        (here / "sweep/sweep.json").write_text(json.dumps(record))
        status, _, stderr = run_here("spi-report run=sweep")
        assert status == 0, stderr
        return (here / "sweep/report.html").read_text()

    shutil.copytree(here / "trained", here / "sweep/a")
    clean = Elements(page_of("a", "a")).found
    for folder in ("a", "../trained", str(here / "trained"), SHOWN):
        html = page_of(SHOWN, folder)
        assert {name for name in (Elements(html).found - clean) if name and not name.startswith("href=")} == set()
        assert not [name for name in Elements(html).found if "javascript" in name or "example.org" in name]
        assert "&lt;script&gt;" in html
        assert "xxxxxxxxxran" not in html


def test_names_that_a_shell_would_run(here: Path, marker: Path) -> None:
    name = f"a;touch {marker.name};$(touch {marker.name})`touch {marker.name}`.cxi"
    shutil.copy(here / "simulated/patterns.cxi", here / name)
    subprocess.run(f"ls {name}", shell=True, capture_output=True, cwd=here, check=False)
    assert ran(here / marker.name)
    with contextlib.chdir(here):
        status, _, stderr = run_here(f"""spi-inspect 'data.path="{name}"' 'run="out;touch {marker.name}"'""")
    assert status == 0, stderr
    assert not ran(here / marker.name)
