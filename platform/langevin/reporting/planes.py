"""Two figures of merit against each other: what one costs of the other, and which points no other one beats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox
from numpy.typing import ArrayLike

from langevin.reporting.axes import LINEAR, Scale, chart, colours, horizontal, legend
from langevin.reporting.theme import LIGHT, Theme, png

_AROUND = ((1, 1), (-1, 1), (1, -1), (-1, -1), (0, 1), (0, -1), (1, 0), (-1, 0))  # where a point's name may stand
_BESIDE_STEPS = ((-1, -1), *_AROUND)  # where a line of steps, which comes from above and goes on to the right, never is
_AWAY = 5  # in points, of a name from its point
_NAMED = 24  # points at most whose names are tried


@dataclass(frozen=True)
class Cloud:
    """Points (x[i], y[i]). names: a text a point, left out where it would lie on another one; around_x, around_y: (low, high)
    of each, its interval; joined: by a line in their order; steps: by one that stands still up to the next point, as what
    can be had for so much; quiet: in grey, behind the others.
    """

    x: Sequence[float]
    y: Sequence[float]
    names: Sequence[str] = ()
    around_x: tuple[ArrayLike, ArrayLike] | None = None
    around_y: tuple[ArrayLike, ArrayLike] | None = None
    joined: bool = False
    steps: bool = False
    quiet: bool = False


def plane(
    clouds: Mapping[str, Cloud],
    xlabel: str,
    ylabel: str,
    scale: Scale = LINEAR,
    hline: Mapping[str, float] | None = None,
    theme: Theme = LIGHT,
) -> bytes:
    """Clouds of points by name, as PNG. scale: of the x axis; hline: label -> value, a dashed line of reference."""
    figure, axes = chart(xlabel, ylabel, theme)
    horizontal(axes, replace(scale, plain=True))
    axes.grid(axis="x", which="major", color=theme.rule, linewidth=0.8)
    loud = [name for name, cloud in clouds.items() if not cloud.quiet]
    colour = dict(zip(loud, colours(theme, len(loud)), strict=True))
    for name, cloud in clouds.items():
        _draw(axes, name, cloud, colour.get(name, theme.muted))
    for label, value in (hline or {}).items():
        axes.axhline(value, color=theme.muted, linewidth=1.1, linestyle=(0, (4, 3)), label=label)
    axes.margins(x=0.09, y=0.14)
    if len(clouds) + len(hline or {}) > 1:
        legend(axes, theme)
    _name(figure, axes, clouds, theme)
    return png(figure, theme)


def _draw(axes: Axes, name: str, cloud: Cloud, colour: str) -> None:
    look: dict[str, Any] = {"color": colour, "linewidth": 1.4 if cloud.joined or cloud.steps else 0, "label": name}
    look |= {"markersize": 3.6, "alpha": 0.45, "zorder": 2} if cloud.quiet else {"markersize": 5, "zorder": 3}
    if cloud.steps:
        look["drawstyle"] = "steps-post"
    axes.plot(cloud.x, cloud.y, marker="o", **look)
    if cloud.around_x or cloud.around_y:
        reach = {side: _reach(values, ends) for side, values, ends in
                 (("xerr", cloud.x, cloud.around_x), ("yerr", cloud.y, cloud.around_y))}  # fmt: skip
        axes.errorbar(cloud.x, cloud.y, **reach, fmt="none", ecolor=colour, elinewidth=0.9, alpha=0.4, zorder=2)


def _reach(values: Sequence[float], ends: tuple[ArrayLike, ArrayLike] | None) -> Any:
    """How far the ends lie from the values, (2, n); an end on the other side is at the value."""
    if ends is None:
        return None
    middle, (low, high) = np.asarray(values), map(np.asarray, ends)
    return np.maximum(np.stack([middle - low, high - middle]), 0)


def _name(figure: Figure, axes: Axes, clouds: Mapping[str, Cloud], theme: Theme) -> None:
    """Each name at the first place about its point where nothing is: no name and no other point."""
    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()  # from here on places are known in pixels
    figure.set_layout_engine("none")
    named = [(x, y, name, _BESIDE_STEPS if cloud.steps else _AROUND) for cloud in clouds.values()
             for x, y, name in zip(cloud.x, cloud.y, cloud.names, strict=False)]  # fmt: skip
    dots = axes.transData.transform(
        [(x, y) for cloud in clouds.values() for x, y in zip(cloud.x, cloud.y, strict=True)]
    )
    radius = 0.04 * figure.dpi
    taken = [Bbox.from_extents(x - radius, y - radius, x + radius, y + radius) for x, y in dots]
    for x, y, name, places in named[:_NAMED]:
        for right, up in places:
            text = _beside(axes, (x, y), name, right, up, theme)
            box = text.get_window_extent(canvas.get_renderer())
            if box.count_overlaps(taken) == 0 and _within(axes.bbox, box):
                taken.append(box)
                break
            text.remove()


def _beside(axes: Axes, point: tuple[float, float], name: str, right: int, up: int, theme: Theme) -> Annotation:
    sides, heights = {1: "left", 0: "center", -1: "right"}, {1: "bottom", 0: "center", -1: "top"}
    look: dict[str, Any] = {
        "ha": sides[right],
        "va": heights[up],
        "fontsize": 8.5,
        "color": theme.text,
        "parse_math": False,
    }
    away = (_AWAY * right, _AWAY * up * 0.8)
    return axes.annotate(name, point, xytext=away, textcoords="offset points", zorder=4, **look)


def _within(room: Bbox, box: Bbox) -> bool:
    return bool(box.x0 >= room.x0 and box.x1 <= room.x1 and box.y0 >= room.y0 and box.y1 <= room.y1)
