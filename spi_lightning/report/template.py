"""What the pages of reports are made with: files of this package, and pictures that stand inside of a page."""

from __future__ import annotations

import base64
import datetime
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

import spi_lightning

PNG = b"\x89PNG\r\n\x1a\n"
CSS_DPI, USUAL_DPI = 96, 130  # of a page, and of our figures
WIDE = 720  # CSS pixels; a wider figure has a line of its own


@dataclass(frozen=True)
class Picture:
    """A figure of a page.

    Attributes:
        title: of it.
        caption: below it; empty where there is nothing to say.
        uri: the file itself, as a data URI.
        width: on the page at most, CSS pixels.
        height: the same.
        wide: whether it has a line of its own.
    """

    title: str
    caption: str
    uri: str
    width: int
    height: int
    wide: bool


@dataclass(frozen=True)
class KeyFigure:
    """A figure at the head of a page: what it is, its value, and what belongs to it."""

    name: str
    value: str
    beside: str = ""


def rendered(template: str, styles: Sequence[str], **values: Any) -> str:
    """A page, in which all that is given is escaped; a name that is missing is an error.

    Args:
        template: its file in this package, which extends ``base.html``.
        styles: files of style sheets.
        values: what it shows: ``kind``, ``name``, ``failure``, ``key`` (rows of :class:`KeyFigure`) and ``notes``,
            which every page has, and its own.
    """
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(resource),
    )
    return environment.get_template(template).render(
        style=Markup("".join(resource(name) for name in styles)),
        version=spi_lightning.__version__,
        written=datetime.datetime.now(datetime.UTC).strftime("%d %B %Y, %H:%M UTC"),
        **values,
    )


def resource(name: str) -> str:
    """A file of this package."""
    return files("spi_lightning.report").joinpath(name).read_text(encoding="utf-8")


def picture(path: Path, title: str, caption: str) -> Picture:
    """A PNG file, ready to stand in a page.

    Raises:
        OSError: it cannot be read.
        ValueError: it is none.
    """
    content = path.read_bytes()
    if not content.startswith(PNG) or len(content) < 33:
        raise ValueError("it is not a PNG file.")
    pixels = struct.unpack(">II", content[16:24])
    width, height = (round(side * CSS_DPI / USUAL_DPI) for side in pixels)
    uri = f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"
    return Picture(title, caption, uri, width, height, width > WIDE)
