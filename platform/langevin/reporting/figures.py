"""Figures as PNG bytes, each drawn for one theme so that it sits on a light or a dark page like a part of it.

Matplotlib is used through its objects on the Agg canvas: no pyplot, no global state, safe in any thread or worker.
Sizes are chosen for a page that shows a chart 340 to 500 CSS pixels wide: the text stays readable on a phone, and there
are two to three pixels for each CSS pixel. The same call gives the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from matplotlib.ticker import (
    EngFormatter,
    FixedFormatter,
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
)
from numpy.typing import ArrayLike, NDArray
from PIL import Image

Points = tuple[ArrayLike, ArrayLike]  # x and y, or low and high: two sequences of one length

_CHART_INCHES = (4.6, 2.9)
_CHART_DPI = 220
_GRID_DPI = 200
_LABEL_PIXELS = 26  # about 9 CSS pixels where a phone shows a grid of twelve columns
_LABEL_LETTERS = 28
_TILE_PIXELS = 66  # an image of the grids is enlarged by whole factors to about this edge
_PAIRED_PIXELS = 132  # to be compared, and seen on a phone
_GAP = 8
_CAPTION_PIXELS = 22  # letters over the images of a grid with captions
_CAPTION_LINES = 6
_COLUMN_PIXELS = 214  # four of them are as wide as twelve tiles
_MARKED = 40  # series of fewer points show each of them
_TICK_LETTERS = 40  # of the names under a chart, which stand aslant where there are more
_LEGEND_LETTERS = 44  # of three names in a row over it


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


@dataclass(frozen=True)
class Scale:
    """How an axis counts. log: by factors; ticks: texts at places, in the place of round numbers, none for those; marked:
    label -> place, a dashed line across the chart.
    """

    log: bool = False
    ticks: Mapping[float, str] = field(default_factory=dict)
    marked: Mapping[str, float] = field(default_factory=dict)


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
    return _encoded(_labelled(_mosaic(rows, columns, theme), theme, rows=classes))


def caption_grid(images: NDArray[np.uint8], captions: Sequence[str], columns: int = 4, theme: Theme = LIGHT) -> bytes:
    """Images in reading order, each under its caption.

    images: (N, C, H, W) uint8, C 1 or 3; captions: N texts, which are broken into lines.
    """
    if len(images) != len(captions):
        raise ValueError(f"{len(captions)} captions cannot stand over {len(images)} images")
    wide = max(_COLUMN_PIXELS, images.shape[-1])
    rows = [slice(start, start + columns) for start in range(0, len(images), columns)]
    lines = [_wrapped(text, wide) for text in captions]
    return _encoded(np.concatenate([_captioned(images[row], lines[row], columns, wide, theme) for row in rows]))


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
    between[:] = _rgb(theme.card)
    parts = [part for group in groups for part in (between, group)]
    return _encoded(np.concatenate(parts[1:]))


def sheet(rows: Sequence[NDArray[np.floating]], theme: Theme = LIGHT) -> bytes:
    """Rows of images without names, such as a plane of latents. rows: each (n, C, H, W) float, data in [-1, 1]."""
    shown = [_displayed(np.asarray(row)) for row in rows]
    return _encoded(_mosaic(shown, max(map(len, shown)), theme))


def trajectory(states: Sequence[NDArray[np.floating]], captions: Sequence[str], theme: Theme = LIGHT) -> bytes:
    """The way from noise to images: a column a state, in the order given, under its caption; a row a sample.

    states: each (n, C, H, W) float, C 1 or 3, data in [-1, 1]; what lies outside is clipped for display.
    """
    if len(states) != len(captions):
        raise ValueError(f"{len(states)} states cannot go under {len(captions)} captions")
    shown = np.stack([_displayed(np.asarray(state)) for state in states], axis=1)
    return _encoded(_labelled(_mosaic(list(shown), len(states), theme), theme, columns=captions))


def curve(
    series: Mapping[str, Points],
    xlabel: str,
    ylabel: str,
    logy: bool = False,
    hline: Mapping[str, float] | None = None,
    band: Mapping[str, Points] | None = None,
    scale: Scale = Scale(),
    theme: Theme = LIGHT,
) -> bytes:
    """Curves over a common axis, such as a loss or FID over images seen.

    series: name -> (x, y); hline: label -> value, a dashed line of reference; band: name of a series -> (low, high), its
    interval at the same x; scale: of the x axis. Points that are not finite leave a gap. A series of one point is a large
    dot; a chart without a point says so.
    """
    figure, axes = _chart(xlabel, ylabel, theme)
    _horizontal(axes, scale)
    if logy:
        _log_scale(axes)
    drawn = [_finite(x, y) for x, y in series.values()]
    for (name, (x, y)), colour in zip(series.items(), _colours(theme, len(series)), strict=True):
        count = len(np.atleast_1d(np.asarray(x)))
        look: dict[str, Any] = {"marker": "o" if count < _MARKED else "", "markersize": 7 if count == 1 else 3.4}
        axes.plot(x, y, color=colour, linewidth=1.6, label=name, solid_capstyle="round", zorder=3, **look)
        if band and name in band:
            axes.fill_between(np.asarray(x, dtype=float), *band[name], color=colour, alpha=0.18, linewidth=0)
    for label, value in (hline or {}).items():
        axes.axhline(value, color=theme.muted, linewidth=1.1, linestyle=(0, (4, 3)), label=label)
    for label, place in scale.marked.items():
        axes.axvline(place, color=theme.muted, linewidth=1.1, linestyle=(0, (1, 2)), label=label)
    if not any(drawn):
        axes.text(0.5, 0.5, "no points yet", transform=axes.transAxes, ha="center", color=theme.muted, fontsize=9)
    if len(series) + len(hline or {}) + len(scale.marked) > 1:
        _legend(axes, theme)
    return _png(figure, theme)


def loss_by_level(
    x: ArrayLike, y: ArrayLike, xlabel: str = "noise level t", ylabel: str = "loss", theme: Theme = LIGHT
) -> bytes:
    """Which noise levels the loss comes from. x: (K,) levels, ascending; y: (K,) mean loss at each, positive."""
    figure, axes = _chart(xlabel, ylabel, theme)
    _log_scale(axes)
    level, loss = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    colour = theme.series[0]
    axes.plot(level, loss, color=colour, linewidth=1.6, marker="o" if len(level) < _MARKED else "", markersize=3.4)
    axes.fill_between(level, loss, axes.get_ylim()[0], color=colour, alpha=0.12, linewidth=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.margins(x=0.02)
    return _png(figure, theme)


def _horizontal(axes: Axes, scale: Scale) -> None:
    if scale.log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    if scale.ticks:
        axes.xaxis.set_major_locator(FixedLocator(list(scale.ticks)))
        axes.xaxis.set_major_formatter(FixedFormatter(list(scale.ticks.values())))
        if sum(map(len, scale.ticks.values())) > _TICK_LETTERS:
            axes.tick_params(axis="x", labelrotation=30)


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
    picture[:] = _rgb(theme.card)
    for top, row in enumerate(rows):
        for left, image in enumerate(row):
            y, x = top * tall + 1, left * wide + 1
            picture[y - 1 : y + height * scale + 1, x - 1 : x + width * scale + 1] = _rgb(theme.rule)
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
    canvas = _pixels(figure, theme)
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
    canvas = _pixels(figure, theme)
    for column, image in enumerate(images):
        left = column * (wide + _GAP) + (wide - width * scale) // 2
        canvas[top - 1 : top + height * scale + 1, max(left - 1, 0) : left + width * scale + 1] = _rgb(theme.rule)
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


def _chart(xlabel: str, ylabel: str, theme: Theme) -> tuple[Figure, Axes]:
    figure = Figure(figsize=_CHART_INCHES, dpi=_CHART_DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.set_facecolor(theme.card)
    axes.set_xlabel(xlabel, color=theme.muted, fontsize=9, parse_math=False)
    # over the axis and upright: read without turning the head, and no width lost on a phone
    axes.set_title(ylabel, loc="left", color=theme.muted, fontsize=9, pad=8, parse_math=False)
    axes.tick_params(which="both", colors=theme.muted, labelsize=8.5, length=0, pad=5)
    axes.grid(axis="y", which="major", color=theme.rule, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(theme.rule)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    return figure, axes


def _log_scale(axes: Axes) -> None:
    axes.set_yscale("log", nonpositive="mask")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _legend(axes: Axes, theme: Theme) -> None:
    """Over the chart, where it never hides a curve."""
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    names = axes.get_legend_handles_labels()[1]
    figure.legend(
        loc="outside upper left",
        ncols=3 if sum(map(len, names)) <= _LEGEND_LETTERS else 2,
        frameon=False,
        fontsize=8.5,
        labelcolor=theme.text,
        handlelength=1.6,
        columnspacing=1.4,
    )


def _colours(theme: Theme, count: int) -> list[str]:
    return [theme.series[index % len(theme.series)] for index in range(count)]


def _finite(x: ArrayLike, y: ArrayLike) -> bool:
    return bool(np.isfinite(np.asarray(x, dtype=float) + np.asarray(y, dtype=float)).any())


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour.removeprefix("#")))


def _pixels(figure: Figure, theme: Theme) -> NDArray[np.uint8]:
    """(height, width, 3) uint8 of the drawn figure on the theme's card."""
    figure.set_facecolor(theme.card)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba(), dtype=np.uint8)[..., :3]


def _encoded(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _png(figure: Figure, theme: Theme) -> bytes:
    return _encoded(_pixels(figure, theme))
