from __future__ import annotations

import base64
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from spi_lightning.errors import SpiError
from spi_lightning.provenance import write_json
from spi_lightning.report import tables
from spi_lightning.report.figures import save
from spi_lightning.report.overlap import shared, write_overlap
from spi_lightning.report.page import write_page
from spi_lightning.report.page_facts import shown
from spi_lightning.report.selections import selection_rows, write_selections
from tests.unit.report.selected import findings
from tests.unit.report.test_tables import scored

SCRIPT = "<script>alert('x')</script>"
VOID = {"meta", "link", "img", "br", "hr"}


class Page(HTMLParser):
    """Text, tags and references of a page; fails where a tag is not closed in its order."""

    def __init__(self, path: Path):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.ids: set[str] = set()
        self.text = ""
        self.html = path.read_text(encoding="utf-8")
        self.feed(self.html)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.ids |= {value for name, value in attrs if name == "id" and value}
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + "\n"

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def headings(self) -> list[str]:
        return re.findall(r"<h2>(.*?)</h2>", self.html)


def picture(path: Path) -> bytes:
    path.parent.mkdir(exist_ok=True)
    save(Figure(figsize=(2.0, 1.0)), path, dpi=130)
    return path.read_bytes()


def recorded(folder: Path, command: str, state: str = "complete", **facts: Any) -> Path:
    """What every job leaves."""
    folder.mkdir(exist_ok=True)
    times = {"started": "2026-11-22T20:09:37+00:00", "ended": "2026-11-22T20:13:08+00:00"}
    write_json(folder / "status.json", {"state": state, "process": 1, **times})
    origin = {
        "versions": {"spi-lightning": "0.1.0", "torch": "2.13"},
        "command": [command, "seed=1"],
        "commit": "62131e4",
    }
    write_json(folder / "provenance.json", {**origin, "data": "e4f5c6", "notes": [], **facts})
    (folder / "config.yaml").write_text(
        "model: {_target_: spi_lightning.models.preact_resnet.PreActResNet, filters: [16, 32]}\n"
        "trainer: {epochs: 12}\nrun: outputs/demo\nthreshold: null\n"
    )
    return folder


@pytest.fixture
def training(tmp_path: Path) -> Path:
    """A training that was selected in."""
    folder = recorded(tmp_path / "training", "spi-train", notes=["Labels are few."])
    (folder / "splits.json").write_text("{}")
    (folder / "tables").mkdir()
    tables.write(tables.cross_validation([scored(0), scored(1)], 0.5, "MaxF1"), folder / "tables")
    tables.write(tables.test_set(*scored(2), 0.5, "MaxF1", None), folder / "tables")
    found = findings()
    write_selections(folder / "tables", selection_rows(found), found)
    write_overlap(folder / "tables", shared(found.selections, 40))
    for name in ("precision_recall", "psd", "sizes", "classes_singles_em", "mine"):
        picture(folder / "figures" / f"{name}.png")
    return folder


def test_a_training_has_every_section_in_order(training: Path) -> None:
    path = write_page(training)
    assert path == training / "report.html"
    page = Page(path)
    assert page.headings() == [
        *("Notes", "Tables", "Scores", "Selections", "Classes", "More figures", "Steps of the selections", "The run")
    ]
    assert [re.sub(" of the paper", "", tag) for tag in re.findall(r'class="tag">(.*?)<', page.html)] == [
        *("Table 2", "Table 3", "Table 4", "Table 5")
    ]
    assert "Labels are few." in page.text
    for text in ("22 November 2026, 20:09 UTC", "0:03:31", "62131e4", "spi-train seed=1", "e4f5c6", "torch 2.13"):
        assert text in page.text
    assert "PreActResNet" in page.text
    assert re.search(r"<dt>Epochs</dt><dd>12</dd>", page.html)
    assert "<dt>Threshold</dt>" not in page.html  # not set
    assert "Class averages: singles em" in page.text
    assert re.search(r'F1 score, test set</span><span class="value">0\.\d{3}</span>.*paper 0\.731', page.html)
    assert 'singles</span><span class="value">14</span><span class="beside">patterns · γ 0.610' in page.html
    assert "size from 55 to 61 nm" in page.text  # a step
    assert "dropped | by <b>labelled</b>" in page.text  # a reason
    assert 'class="failure"' not in page.html


def test_a_page_needs_nothing_but_itself(training: Path) -> None:
    content = (training / "figures" / "psd.png").read_bytes()
    page = Page(write_page(training))
    assert not page.all("script")
    assert not re.search(r"url\(|@import", page.html)
    for tag, attributes in page.tags:
        for name in ("src", "href", "action", "data", "srcset", "poster"):
            if (value := attributes.get(name)) is not None:
                assert value.startswith(("data:", "#")), tag
                assert not value.startswith("#") or value[1:] in page.ids
    images = page.all("img")
    assert len(images) == 5
    assert any(image["src"] == f"data:image/png;base64,{base64.b64encode(content).decode()}" for image in images)
    assert {(image["width"], image["height"]) for image in images} == {("192", "96")}
    assert all(image["alt"] for image in images)


def test_whatever_comes_from_elsewhere_is_escaped(training: Path) -> None:
    found = findings()
    found.selections = {
        SCRIPT: found.selections["singles"],
        "![a](http://a.b/c.png) [d](http://e)": found.selections["labelled"],
    }
    write_selections(training / "tables", selection_rows(found), found)
    recorded(training, SCRIPT, notes=[SCRIPT], commit=SCRIPT, data=SCRIPT)
    (training / "config.yaml").write_text(f'data: {{path: "{SCRIPT}"}}\n')
    picture(training / "figures" / "<script>alert(1).png")
    (training / "tables" / "more.md").write_text(f"## {SCRIPT}\n\n| a |\n| --- |\n| {SCRIPT} |\n\n<b>bold</b>\n")
    page = Page(write_page(training))
    assert not page.all("script")
    assert "&lt;b&gt;bold" in page.html
    assert page.text.count(SCRIPT) > 6
    assert len(page.all("img")) == 6
    assert not any("http" in (attributes.get("href") or "") for attributes in page.all("a"))


def test_a_prediction_shows_its_summary(tmp_path: Path) -> None:
    folder = recorded(tmp_path / "prediction", "spi-predict")
    (folder / "scores.h5").write_bytes(b"")
    summary = {"patterns": 3000, "selected": 54, "threshold": 0.83778, "notes": ["No labels."], "files": []}
    write_json(folder / "summary.json", summary)
    page = Page(write_page(folder))
    assert page.headings() == ["Notes", "The run"]
    assert re.findall(r'class="value">(.*?)<', page.html) == ["3000", "54", "0.8378"]
    assert "No labels." in page.text
    assert "Prediction: " in page.html


def test_an_inspection_tells_all_that_it_found(tmp_path: Path) -> None:
    folder = recorded(
        tmp_path / "inspection", "spi-inspect", data={"path": "x.cxi", "fingerprint": "abc123"}, labels="8 single hits"
    )
    summary = {
        "patterns": 20,
        "first and last id": [SCRIPT, "b"],
        "found": {"gain": 1.5},
        "notes": [],
        "pictures": ["a"],
    }
    write_json(folder / "summary.json", summary)
    picture(folder / "contact_sheet.png")
    page = Page(write_page(folder))
    assert page.headings() == ["Patterns", "The run"]
    assert f"{SCRIPT}, b" in page.text
    assert "gain 1.5" in page.text
    assert "<dd>abc123</dd>" in page.html
    assert "Labels fingerprint" not in page.text
    assert "<dt>pictures</dt>" not in page.html


def test_a_simulation_shows_what_was_made(tmp_path: Path) -> None:
    folder = recorded(tmp_path / "simulation", "spi-simulate", patterns=200, **{"single hits, in truth": 8})
    (folder / "patterns.cxi").write_bytes(b"")
    page = Page(write_page(folder))
    assert re.findall(r'class="value">(.*?)<', page.html) == ["200", "8"]
    assert page.headings() == ["The run"]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({"state": "failed", "error": f"SpiError: {SCRIPT}"}, f"This run failed. SpiError: {SCRIPT}"),
        ({"state": "running", "process": 1}, "This run was not complete when this page was written."),
        ({"state": "running", "process": os.getpid()}, None),
    ],
)
def test_a_run_that_did_not_end_well_says_so(training: Path, status: dict[str, Any], said: str | None) -> None:
    write_json(training / "status.json", status)
    page = Page(write_page(training))
    assert len(re.findall('class="failure"', page.html)) == (said is not None)
    assert said is None or said in page.text


def test_what_cannot_be_read_becomes_a_note(training: Path) -> None:
    (training / "provenance.json").write_text("{")
    (training / "status.json").write_text("[1]")
    (training / "config.yaml").write_text("a: [")
    (training / "figures" / "psd.png").write_text("no picture")
    (training / "tables" / "selection_steps.csv").write_text("selection,what\na,b\n")
    (training / "tables" / "test.csv").write_bytes(b"\xff\xfe\n\xff")
    (training / "tables" / "selections.csv").write_text("selection,patterns\n" + "a" * 200_000)
    page = Page(write_page(training))
    for name in ("provenance.json", "status.json", "config.yaml", "selection_steps.csv", "test.csv", "selections.csv"):
        assert f"{name} cannot be read" in page.text
    assert "psd.png is left out: it is not a PNG file." in page.text
    assert "F1 score, cross-validation" in page.text  # in place of the test set's


def test_a_training_that_has_only_begun_has_a_page(tmp_path: Path) -> None:
    (tmp_path / "splits.json").write_text("{}")
    page = Page(write_page(tmp_path))
    assert page.headings() == ["The run"]


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpiError, match=r"is no folder\. Give the run folder"):
        write_page(tmp_path / "nowhere")
    recorded(tmp_path / "evaluation", "spi-evaluate")
    with pytest.raises(SpiError, match=r"none of splits\.json, scores\.h5"):
        write_page(tmp_path / "evaluation")
    assert not (tmp_path / "evaluation" / "report.html").exists()


def test_a_page_replaces_the_one_before(training: Path) -> None:
    first = write_page(training)
    (training / "figures" / "mine.png").unlink()
    second = write_page(training)
    assert second == first
    assert "More figures" not in Page(second).headings()
    assert not list(training.glob("*.partial-*"))


def test_values_are_shown_as_a_person_reads_them() -> None:
    assert [shown(value) for value in (None, True, 0.123456, [1, [2.0]], {"a": False}, "x", [])] == [
        *("", "yes", "0.1235", "1, 2", "a no", "x", "")
    ]
    assert shown(json.loads("1e-05")) == "1e-05"
