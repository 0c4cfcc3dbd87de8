"""A page on disk: index.html, complete in itself, and its pictures beside it as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from langevin.reporting.page import Report, render
from langevin.stages.outputs import write_text
from langevin.stages.subject import Part


def left(page: Report, parts: Sequence[Part], folder: Path) -> Path:
    """Writes the page with these parts as its sections. Its index.html."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in parts:
        for name, picture in part.pictures.items():
            (folder / f"{name}.png").write_bytes(picture.png)
    index = folder / "index.html"
    write_text(index, render(replace(page, sections=tuple(part.section for part in parts))))
    return index
