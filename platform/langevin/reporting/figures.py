"""Curves as PNG bytes, each drawn for one theme so that it sits on a light or a dark page like a part of it.

The same call gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from langevin.reporting.axes import LINEAR, Scale, chart, colours, horizontal, legend, log_scale
from langevin.reporting.theme import LIGHT, Theme, png

__all__ = ["Points", "Scale", "curve"]

Points = tuple[ArrayLike, ArrayLike]  # x and y, or low and high: two sequences of one length

_MARKED = 40  # series of fewer points show each of them


def curve(
    series: Mapping[str, Points],
    xlabel: str,
    ylabel: str,
    logy: bool = False,
    hline: Mapping[str, float] | None = None,
    band: Mapping[str, Points] | None = None,
    scale: Scale = LINEAR,
    behind: Mapping[str, Points] | None = None,
    theme: Theme = LIGHT,
) -> bytes:
    """Curves over a common axis, such as a loss or FID over images seen.

    series: name -> (x, y); hline: label -> value, a dashed line of reference; band: name of a series -> (low, high), its
    interval at the same x; scale: of the x axis; behind: more curves, in grey and without their names. Points that are
    not finite leave a gap. A series of one point is a large dot; a chart without a point says so.
    """
    figure, axes = chart(xlabel, ylabel, theme)
    horizontal(axes, scale)
    if logy:
        log_scale(axes)
    drawn = [_finite(x, y) for x, y in series.values()]
    for (name, (x, y)), colour in zip(series.items(), colours(theme, len(series)), strict=True):
        count = len(np.atleast_1d(np.asarray(x)))
        look: dict[str, Any] = {"marker": "o" if count < _MARKED else "", "markersize": 7 if count == 1 else 3.4}
        axes.plot(x, y, color=colour, linewidth=1.6, label=name, solid_capstyle="round", zorder=3, **look)
        if band and name in band:
            axes.fill_between(np.asarray(x, dtype=float), *band[name], color=colour, alpha=0.18, linewidth=0)
    for x, y in (behind or {}).values():
        axes.plot(x, y, color=theme.muted, linewidth=1.0, alpha=0.45, marker="o", markersize=2.6, zorder=2)
    for label, value in (hline or {}).items():
        axes.axhline(value, color=theme.muted, linewidth=1.1, linestyle=(0, (4, 3)), label=label)
    for label, place in scale.marked.items():
        axes.axvline(place, color=theme.muted, linewidth=1.1, linestyle=(0, (1, 2)), label=label)
    if not any(drawn):
        axes.text(0.5, 0.5, "no points yet", transform=axes.transAxes, ha="center", color=theme.muted, fontsize=9)
    if len(series) + len(hline or {}) + len(scale.marked) > 1:
        legend(axes, theme)
    return png(figure, theme)


def _finite(x: ArrayLike, y: ArrayLike) -> bool:
    return bool(np.isfinite(np.asarray(x, dtype=float) + np.asarray(y, dtype=float)).any())
