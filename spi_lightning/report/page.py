"""One page of all that a run has left: ``report.html``, which opens anywhere without a network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markupsafe import Markup

from spi_lightning.provenance import write_text
from spi_lightning.report.page_facts import gather
from spi_lightning.report.page_figures import pictures
from spi_lightning.report.template import rendered

# The tables that the paper has too, in the order of the page; all others follow.
TABLES = {
    "cross_validation": "Table 2 of the paper",
    "test": "Table 3 of the paper",
    "selections": "Table 4 of the paper",
    "overlap": "Table 5 of the paper",
}
DENSE = 8  # columns; a table with more is set smaller
PAPER = (
    "D. Assalauova, A. Ignatenko, F. Isensee, D. Trofimova & I. A. Vartanyants, J. Appl. Cryst. 55 (2022), 444–454, "
    "doi:10.1107/S1600576722002667"
)


@dataclass(frozen=True)
class TableShown:
    """A table of the page: as HTML, which of the paper's it is, and where all digits are."""

    html: Markup
    paper: str
    digits: str


def write_page(folder: Path) -> Path:
    """Write ``report.html`` from the files that stand in a run folder.

    The page holds all that it shows: styles and pictures are inside, and it needs neither script nor network. Sections
    are there only for what is there. Everything that is read is escaped: ids and file names come from elsewhere.

    Args:
        folder: of spi-train, spi-predict, spi-simulate, spi-inspect or spi-select, also one that has not ended well.

    Returns:
        Where the page is.

    Raises:
        SpiError: it is no such folder.
    """
    facts = gather(folder)
    figures, notes = pictures(folder)
    facts.notes += notes
    html = rendered(
        "page.html",
        ["page.css"],
        kind=facts.kind,
        name=facts.name,
        failure=facts.failure,
        key=[facts.key, facts.chosen],
        notes=facts.notes,
        facts=facts,
        figures=figures,
        tables=_tables(folder),
        paper=PAPER,
    )
    path = folder / "report.html"
    write_text(path, html)
    return path


def _tables(folder: Path) -> list[TableShown]:
    """Tables of the folder from their Markdown; no HTML, links or pictures are taken from it."""
    reader = MarkdownIt("zero").enable(["heading", "table", "list", "escape"])
    places = {path.stem: path for path in sorted((folder / "tables").glob("*.md"))}
    names = [name for name in TABLES if name in places] + [name for name in places if name not in TABLES]
    found = []
    for name in names:
        tokens = reader.parse(places[name].read_text(encoding="utf-8", errors="replace"))
        for token in tokens:
            if token.type in ("heading_open", "heading_close"):  # h2 is a section of the page
                token.tag = f"h{min(6, int(token.tag[1]) + 1)}"
        html = reader.renderer.render(tokens, reader.options, {})
        kind = "wide dense" if html.partition("</tr>")[0].count("<th") > DENSE else "wide"
        html = html.replace("<table>", f'<div class="{kind}"><table>').replace("</table>", "</table></div>")
        digits = f"tables/{name}.csv" if (folder / "tables" / f"{name}.csv").is_file() else ""
        found.append(TableShown(Markup(html), TABLES.get(name, ""), digits))
    return found
