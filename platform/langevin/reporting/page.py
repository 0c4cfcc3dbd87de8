"""A report as one HTML page that needs nothing but itself: no request, no script, light and dark, phone and desktop.

Everything that comes from outside (run names, class names, tags) is escaped by the template; a content security policy
in the page forbids any request even so.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from langevin.reporting.theme import DARK, LIGHT, Theme

Cell = str | int | float | None


@dataclass(frozen=True)
class Picture:
    """A figure of a page. png: bytes for light pages; dark: the same for dark ones, or None to show png on both;
    wide: over the whole width of the page instead of beside another picture.
    """

    title: str
    alt: str
    png: bytes
    caption: str = ""
    dark: bytes | None = None
    wide: bool = False

    @classmethod
    def drawn(
        cls, title: str, alt: str, draw: Callable[[Theme], bytes], caption: str = "", wide: bool = False
    ) -> Picture:
        """Draws the figure for both themes: ``Picture.drawn(..., lambda theme: curve(..., theme=theme))``."""
        return cls(title, alt, draw(LIGHT), caption, draw(DARK), wide)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels, from the PNG's header: the page reserves the room before it decodes."""
        width, height = struct.unpack(">II", self.png[16:24])
        return width, height


@dataclass(frozen=True)
class Table:
    """columns: the heads; rows: a cell a column, None is shown as a dash, floats with four digits; the first column
    names the row.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"the row {row!r} has {len(row)} cells under {len(self.columns)} columns")


@dataclass(frozen=True)
class Section:
    """A part of a report. text: plain text; an empty line starts a paragraph."""

    title: str
    text: str = ""
    figures: tuple[Picture, ...] = ()
    table: Table | None = None


@dataclass(frozen=True)
class Report:
    """headline: (label, value, note), the few figures to see first; lineage: (name, value), from the source to what came
    of it; generated: ISO 8601 time, passed in so that a page is a function of its report.
    """

    title: str
    subtitle: str
    generated: str
    headline: tuple[tuple[str, str, str], ...] = ()
    sections: tuple[Section, ...] = ()
    lineage: tuple[tuple[str, str], ...] = ()


def render(report: Report) -> str:
    """The page of a report, complete in itself."""
    source = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(data_uri=_data_uri, cell=_cell, paragraphs=_paragraphs, numeric=_numeric)
    return environment.from_string(source).render(report=report)


def _data_uri(png: bytes) -> Markup:
    # Markup: the base64 alphabet needs no escaping, and escaping megabytes takes time
    return Markup("data:image/png;base64," + base64.b64encode(png).decode("ascii"))


def _cell(value: Cell) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _paragraphs(text: str) -> list[str]:
    return [part.strip() for part in text.split("\n\n") if part.strip()]


def _numeric(table: Table, column: int) -> bool:
    """Whether a column holds figures, which line up on the right: its cells start with a digit or a sign, or are empty."""
    cells = [_cell(row[column]) for row in table.rows]
    return bool(cells) and all(text[:1].isdigit() or text[:1] in "+-–−±<>≤≥~" for text in cells)
