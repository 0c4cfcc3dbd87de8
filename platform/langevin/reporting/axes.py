"""The empty chart that every figure with axes begins with: its size, its letters, its scales and its legend.

Matplotlib is used through its objects on the Agg canvas: no pyplot, no global state, safe in any thread or worker.
Sizes are chosen for a page that shows a chart 340 to 500 CSS pixels wide: the text stays readable on a phone, and there
are two to three pixels for each CSS pixel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from matplotlib.axes import Axes
from matplotlib.figure import Figure
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

from langevin.reporting.theme import Theme

_CHART_INCHES = (4.2, 2.9)
_CHART_DPI = 240
_TICK_LETTERS = 40  # of the names under a chart, which stand aslant where there are more
_LEGEND_LETTERS = 38  # of three names in a row over it


@dataclass(frozen=True)
class Scale:
    """How an axis counts. log: by factors; ticks: texts at places, in the place of round numbers, none for those; marked:
    label -> place, a dashed line across the chart; plain: in plain numbers, where others have 1k for 1,000 and 1m for 0.001.
    """

    log: bool = False
    ticks: Mapping[float, str] = field(default_factory=dict)
    marked: Mapping[str, float] = field(default_factory=dict)
    plain: bool = False


LINEAR = Scale()


def chart(xlabel: str, ylabel: str, theme: Theme) -> tuple[Figure, Axes]:
    """ylabel: over the axis and upright, read without turning the head, and no width lost on a phone."""
    figure = Figure(figsize=_CHART_INCHES, dpi=_CHART_DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.set_facecolor(theme.card)
    axes.set_xlabel(xlabel, color=theme.muted, fontsize=9.5, parse_math=False)
    axes.set_title(ylabel, loc="left", color=theme.muted, fontsize=9.5, pad=8, parse_math=False)
    axes.tick_params(which="both", colors=theme.muted, labelsize=9, length=0, pad=5)
    axes.grid(axis="y", which="major", color=theme.rule, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(theme.rule)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    return figure, axes


def horizontal(axes: Axes, scale: Scale) -> None:
    """The x axis counts as the scale says."""
    if scale.log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    if scale.plain:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    if scale.ticks:
        axes.xaxis.set_major_locator(FixedLocator(list(scale.ticks)))
        axes.xaxis.set_major_formatter(FixedFormatter(list(scale.ticks.values())))
        if sum(map(len, scale.ticks.values())) > _TICK_LETTERS:
            axes.tick_params(axis="x", labelrotation=30)


def log_scale(axes: Axes) -> None:
    """The y axis counts by factors, in plain numbers."""
    axes.set_yscale("log", nonpositive="mask")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def legend(axes: Axes, theme: Theme) -> None:
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


def colours(theme: Theme, count: int) -> list[str]:
    """One a series, over again where there are more."""
    return [theme.series[index % len(theme.series)] for index in range(count)]
