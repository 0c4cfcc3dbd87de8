"""How much of what trials differ by comes from which of their settings: functional ANOVA (Hutter et al. 2014), by Optuna."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from langevin.search.space import Knobs, Range, Settings

FEWEST = 4  # trials: fewer say nothing
SEED = 0  # of the trees


def importance(knobs: Knobs, settings: Sequence[Settings], values: Sequence[float]) -> dict[str, float]:
    """The share of the values' variance that each knob explains alone, of what all of them explain alone: they add up to 1.

    A forest is fitted to the trials, and its variance over the whole space is taken apart by knob. Values that are not
    finite are left out, and knobs that were never moved. Empty where fewer than four trials are left, or where nothing moves.
    """
    pairs = [(trial, value) for trial, value in zip(settings, values, strict=True) if math.isfinite(value)]
    tried = {name: list(dict.fromkeys(_comparable(trial[name]) for trial, _ in pairs)) for name in knobs}
    moved = [name for name, found in tried.items() if len(found) > 1]
    if len(pairs) < FEWEST or not moved or len({value for _, value in pairs}) < 2:
        return {}
    space = {name: _distribution(knobs[name], tried[name]) for name in moved}
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it tells of every study that it makes
    try:
        study = optuna.create_study()
        for trial, value in pairs:
            placed = {name: _placed(space[name], trial[name]) for name in moved}
            study.add_trial(optuna.create_trial(params=placed, distributions=space, value=value))
        found = optuna.importance.get_param_importances(
            study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=SEED)
        )
    finally:
        optuna.logging.set_verbosity(before)
    return {name: float(share) for name, share in found.items()}


def _distribution(knob: Any, tried: list[Any]) -> BaseDistribution:
    if not isinstance(knob, Range):
        return CategoricalDistribution(tried)
    if knob.is_whole:
        return IntDistribution(int(knob.low), int(knob.high), log=knob.log)
    return FloatDistribution(float(knob.low), float(knob.high), log=knob.log)


def _placed(space: BaseDistribution, value: Any) -> Any:
    return _comparable(value) if isinstance(space, CategoricalDistribution) else value


def _comparable(value: Any) -> Any:
    """Choices are compared, and may be lists or sections."""
    return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value)
