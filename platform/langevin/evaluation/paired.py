"""By how much one model is better than another, when both were measured alike: paired on common noise.

The interval says where the difference would land with other noise and other reference images of the same classes. It does not
say what another training of the same recipe would give: of two trainings, one is in truth a little better, and with enough
images that is seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langevin.evaluation.comparison import BESIDE
from langevin.evaluation.intervals import Figure, around
from langevin.evaluation.spread import apart


def differences(before: Mapping[str, Figure], after: Mapping[str, Figure]) -> dict[str, Figure]:
    """after - before with its 95 % interval, of every figure that both have and that says what its interval comes from.

    Both of one spec, measured in this process by one evaluator: image k of a set is then of the same noise and condition, or
    the same reference image, in both.
    """
    found = {}
    for name in (before.keys() & after.keys()) - BESIDE:
        deviation = apart(before[name].spread, after[name].spread)
        if deviation is not None:
            figure = after[name]
            found[name] = around(figure.value - before[name].value, deviation, figure.n, figure.unit)
    return dict(sorted(found.items()))


def paired_of(beside: Mapping[str, Any]) -> dict[str, Figure]:
    """The differences as they are kept beside the champion's evaluation, of which older ones have none."""
    return {name: Figure(**said) for name, said in beside.get("differences", {}).items()}
