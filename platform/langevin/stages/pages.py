"""A page on disk: index.html, complete in itself, and its pictures beside it as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from langevin.stages.outputs import write_text
from langevin.stages.subject import Part


def left(page: str, parts: Sequence[Part], folder: Path) -> Path:
    """Writes the page, and the pictures of its parts beside it. Its index.html."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in parts:
        for name, picture in part.pictures.items():
            (folder / f"{name}.png").write_bytes(picture.png)
    index = folder / "index.html"
    write_text(index, page)
    return index
