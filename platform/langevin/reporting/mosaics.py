"""Many images as one picture with names, pixel for pixel: PNG bytes for a light or a dark page, the same at every call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from numpy.typing import ArrayLike, NDArray

from langevin.reporting.theme import LIGHT, Theme, encoded, pixels, rgb

_GRID_DPI = 200
_LABEL_PIXELS = 26  # about 9 CSS pixels where a phone shows a grid of twelve columns
_LABEL_LETTERS = 28
_TILE_PIXELS = 66  # an image of the grids is enlarged by whole factors to about this edge
_PAIRED_PIXELS = 132  # to be compared, and seen on a phone
_GAP = 8
_CAPTION_PIXELS = 22  # letters over the images of a grid with captions
_CAPTION_LINES = 6
_COLUMN_PIXELS = 214  # four of them are as wide as twelve tiles


def class_grid(
    images: NDArray[np.uint8],
    labels: ArrayLike,
    classes: Sequence[str],
    per_class: int = 12,
    theme: Theme = LIGHT,
) -> bytes:
    """The first ``per_class`` images of every class, a row a class, with its name.

    images: (N, C, H, W) uint8, C 1 or 3; labels: (N,) indices into classes. A class with fewer images leaves its row
    unfinished.
    """
    labels = np.asarray(labels)
    rows = [images[labels == index][:per_class] for index in range(len(classes))]
    columns = max(1, max((len(row) for row in rows), default=1))
    return encoded(_labelled(_mosaic(rows, columns, theme), theme, rows=classes))


def caption_grid(images: NDArray[np.uint8], captions: Sequence[str], columns: int = 4, theme: Theme = LIGHT) -> bytes:
    """Images in reading order, each under its caption.

    images: (N, C, H, W) uint8, C 1 or 3; captions: N texts, which are broken into lines.
    """
    if len(images) != len(captions):
        raise ValueError(f"{len(captions)} captions cannot stand over {len(images)} images")
    wide = max(_COLUMN_PIXELS, images.shape[-1])
    rows = [slice(start, start + columns) for start in range(0, len(images), columns)]
    lines = [_wrapped(text, wide) for text in captions]
    return encoded(np.concatenate([_captioned(images[row], lines[row], columns, wide, theme) for row in rows]))


def paired_grid(rows: Mapping[str, NDArray[np.uint8]], columns: int = 6, theme: Theme = LIGHT) -> bytes:
    """Images that belong together one under the other, each row under its name: what came first above what came of it.

    rows: name -> (N, C, H, W) uint8 of one shape, image i of each belonging together; after ``columns`` of them a group of
    rows ends and the next one begins.
    """
    count = min(map(len, rows.values()))
    groups = [
        _labelled(
            _mosaic(
                [images[start : min(start + columns, count)] for images in rows.values()], columns, theme, _PAIRED_PIXELS
            ), theme, rows=tuple(rows),
        ) for start in range(0, count, columns)
    ]  # fmt: skip
    between = np.empty((2 * _GAP, groups[0].shape[1], 3), dtype=np.uint8)
    between[:] = rgb(theme.card)
    parts = [part for group in groups for part in (between, group)]
    return encoded(np.concatenate(parts[1:]))


def sheet(rows: Sequence[NDArray[np.floating]], theme: Theme = LIGHT) -> bytes:
    """Rows of images without names, such as a plane of latents. rows: each (n, C, H, W) float, data in [-1, 1]."""
    shown = [_displayed(np.asarray(row)) for row in rows]
    return encoded(_mosaic(shown, max(map(len, shown)), theme))


def trajectory(states: Sequence[NDArray[np.floating]], captions: Sequence[str], theme: Theme = LIGHT) -> bytes:
    """The way from noise to images: a column a state, in the order given, under its caption; a row a sample.

    states: each (n, C, H, W) float, C 1 or 3, data in [-1, 1]; what lies outside is clipped for display.
    """
    if len(states) != len(captions):
        raise ValueError(f"{len(states)} states cannot go under {len(captions)} captions")
    shown = np.stack([_displayed(np.asarray(state)) for state in states], axis=1)
    return encoded(_labelled(_mosaic(list(shown), len(states), theme), theme, columns=captions))


def _displayed(state: NDArray[np.floating]) -> NDArray[np.uint8]:
    """[-1, 1] -> [0, 255], clipped; a value that is no number is shown black rather than at random."""
    return np.nan_to_num(np.rint((state.clip(-1, 1) + 1) * 127.5)).astype(np.uint8)


def _mosaic(
    rows: Sequence[NDArray[np.uint8]], columns: int, theme: Theme, edge: int = _TILE_PIXELS
) -> NDArray[np.uint8]:
    """Rows of images (n, C, H, W) -> one picture (height, width, 3) uint8 on the theme's card, nearest neighbour.

    A line around each shows where an image ends that is as white, or as dark, as the page.
    """
    sizes = [row.shape[1:] for row in rows]
    _, height, width = sizes[0] if sizes else (1, 1, 1)
    scale = max(1, round(edge / max(height, width)))
    tall, wide = height * scale + _GAP, width * scale + _GAP
    picture = np.empty((len(rows) * tall - _GAP + 2, columns * wide - _GAP + 2, 3), dtype=np.uint8)
    picture[:] = rgb(theme.card)
    for top, row in enumerate(rows):
        for left, image in enumerate(row):
            y, x = top * tall + 1, left * wide + 1
            picture[y - 1 : y + height * scale + 1, x - 1 : x + width * scale + 1] = rgb(theme.rule)
            picture[y : y + height * scale, x : x + width * scale] = _tile(image, scale)
    return picture


def _labelled(
    picture: NDArray[np.uint8], theme: Theme, rows: Sequence[str] = (), columns: Sequence[str] = ()
) -> NDArray[np.uint8]:
    """The picture, pixel for pixel, with names left of its rows or over its columns."""
    height, width = picture.shape[:2]
    rows, columns = [_shortened(name) for name in rows], [_shortened(name) for name in columns]
    size = _LABEL_PIXELS
    if columns:  # neighbours must not touch
        size = min(size, 0.9 * size * (width / len(columns)) / max(_text_width(name, size) for name in columns))
    left = round(max(_text_width(name, size) for name in rows) + _LABEL_PIXELS) if rows else 0
    top = round(1.8 * size) if columns else 0
    figure = Figure(figsize=((left + width) / _GRID_DPI, (top + height) / _GRID_DPI), dpi=_GRID_DPI)
    look: dict[str, Any] = {"fontsize": size * 72 / _GRID_DPI, "color": theme.muted, "parse_math": False}
    for index, name in enumerate(rows):
        y = top + _centre(index, len(rows), height)
        figure.text(0, 1 - y / (top + height), name, va="center_baseline", **look)
    for index, name in enumerate(columns):
        x = left + _centre(index, len(columns), width)
        figure.text(x / (left + width), 1, name, ha="center", va="top", **look)
    canvas = pixels(figure, theme)
    canvas[-height:, -width:] = picture
    return canvas


def _captioned(
    images: NDArray[np.uint8], texts: Sequence[Sequence[str]], columns: int, wide: int, theme: Theme
) -> NDArray[np.uint8]:
    """A row of images, each in the middle of a column so many pixels wide, under its lines of text: (height, width, 3).

    A line around each shows where an image ends that is as white as the page.
    """
    line = round(1.25 * _CAPTION_PIXELS)
    height, width = images.shape[2:]
    scale = max(1, wide // width)
    top = line * max(map(len, texts)) + _GAP
    size = (columns * (wide + _GAP) - _GAP, top + height * scale + 3 * _GAP)
    figure = Figure(figsize=(size[0] / _GRID_DPI, size[1] / _GRID_DPI), dpi=_GRID_DPI)
    look: dict[str, Any] = {"fontsize": _CAPTION_PIXELS * 72 / _GRID_DPI, "color": theme.muted, "parse_math": False}
    for column, lines in enumerate(texts):
        x = (column * (wide + _GAP) + wide / 2) / size[0]
        for number, text in enumerate(reversed(lines)):  # the last one is next to the image
            figure.text(x, 1 - (top - _GAP - number * line) / size[1], text, ha="center", va="bottom", **look)
    canvas = pixels(figure, theme)
    for column, image in enumerate(images):
        left = column * (wide + _GAP) + (wide - width * scale) // 2
        canvas[top - 1 : top + height * scale + 1, max(left - 1, 0) : left + width * scale + 1] = rgb(theme.rule)
        canvas[top : top + height * scale, left : left + width * scale] = _tile(image, scale)
    return canvas


def _wrapped(text: str, wide: int) -> list[str]:
    """A text in lines that are so many pixels wide at most, broken between words where it can be; what is beyond the last
    line is left out.
    """
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".strip()
        if _text_width(joined, _CAPTION_PIXELS) <= wide:
            lines[-1] = joined
            continue
        lines += [""] * bool(lines[-1])
        for letter in word:  # a word of its own may be wider than the line, as in writing without blanks
            if _text_width(lines[-1] + letter, _CAPTION_PIXELS) > wide:
                lines.append("")
            lines[-1] += letter
    if len(lines) <= _CAPTION_LINES:
        return lines
    return [*lines[: _CAPTION_LINES - 1], lines[_CAPTION_LINES - 1][:-1] + "…"]


def _tile(image: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """(C, H, W) -> (H scale, W scale, 3), nearest neighbour."""
    tile = image.transpose(1, 2, 0).repeat(scale, axis=0).repeat(scale, axis=1)
    return tile.repeat(3 // tile.shape[2], axis=2)


def _centre(index: int, count: int, extent: int) -> float:
    """Pixels from the edge of a mosaic to the middle of its tile number ``index``."""
    return (index + 0.5) * (extent + _GAP) / count - _GAP / 2


def _shortened(name: str) -> str:
    return name if len(name) <= _LABEL_LETTERS else name[: _LABEL_LETTERS - 1] + "…"


def _text_width(name: str, size: float) -> float:
    width, _, _ = text_to_path.get_text_width_height_descent(name, FontProperties(size=size), ismath=False)
    return max(width, 1.0)
