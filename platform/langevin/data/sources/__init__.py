"""Sources of images by the name that a recipe gives them."""

from __future__ import annotations

from collections.abc import Callable

from langevin.data.sources.digits import Digits
from langevin.data.sources.folder import Folder
from langevin.data.sources.reduced import Reduced
from langevin.data.sources.shapes import Shapes
from langevin.data.sources.source import Source, SourceImage, SourceInfo

SOURCES: dict[str, Callable[..., Source]] = {"digits": Digits, "folder": Folder, "shapes": Shapes}

__all__ = ["SOURCES", "Digits", "Folder", "Reduced", "Shapes", "Source", "SourceImage", "SourceInfo"]
