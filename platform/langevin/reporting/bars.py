"""Shares as bars, the largest first."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.ticker import NullLocator

from langevin.reporting.axes import chart
from langevin.reporting.theme import LIGHT, Theme, png

_BAR_INCHES = 0.46  # a bar with its name
_AROUND_INCHES = 0.5


def bars(shares: Mapping[str, float], xlabel: str, theme: Theme = LIGHT) -> bytes:
    """Each share, in [0, 1], as a bar under its name, as PNG: no name is cut off or aslant, however long."""
    figure, axes = chart(xlabel, "", theme)
    names = sorted(shares, key=lambda name: -shares[name])
    figure.set_size_inches(figure.get_figwidth(), _AROUND_INCHES + _BAR_INCHES * len(names))
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    axes.xaxis.set_major_locator(NullLocator())
    axes.yaxis.set_major_locator(NullLocator())
    for row, name in enumerate(names):
        share = shares[name]
        axes.barh(row, 1, height=0.3, color=theme.rule)
        axes.barh(row, share, height=0.3, color=theme.series[0])
        axes.text(0, row - 0.22, name, va="bottom", color=theme.text, fontsize=9, parse_math=False)
        axes.text(1, row - 0.22, f"{share:.0%}", va="bottom", ha="right", color=theme.muted, fontsize=9)
    axes.set_xlim(0, 1)
    axes.set_ylim(len(names) - 0.7, -0.75)
    return png(figure, theme)
