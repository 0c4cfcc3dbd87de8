"""The colours of a light and of a dark page, and figures as PNG bytes on one of them."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class Theme:
    """Colours of a figure. card: the surface it lies on; series: one colour a curve, told apart in grey as well."""

    card: str
    text: str
    muted: str
    rule: str
    series: tuple[str, ...]


LIGHT = Theme("#ffffff", "#1d2430", "#5d6675", "#e4e7ec", ("#3b5bdb", "#d9480f", "#0b7a75", "#9c36b5", "#7a6a00"))
DARK = Theme("#181b22", "#e8eaef", "#9aa3b2", "#2b303b", ("#8ea5ff", "#ffa264", "#4fd1c5", "#dd9bf0", "#d8c64a"))


def rgb(colour: str) -> tuple[int, ...]:
    """ "#rrggbb" -> (red, green, blue), 0 to 255."""
    return tuple(bytes.fromhex(colour.removeprefix("#")))


def pixels(figure: Figure, theme: Theme) -> NDArray[np.uint8]:
    """(height, width, 3) uint8 of the drawn figure on the theme's card."""
    figure.set_facecolor(theme.card)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba(), dtype=np.uint8)[..., :3]


def encoded(pixels: NDArray[np.uint8]) -> bytes:
    """(height, width, 3) uint8 as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def png(figure: Figure, theme: Theme) -> bytes:
    """The drawn figure on the theme's card."""
    return encoded(pixels(figure, theme))
