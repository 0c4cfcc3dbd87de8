"""Population-based training: at a rung the worst of a population go on from the state of the best, with other knobs.

Jaderberg et al. 2017 (arXiv 1711.09846): exploit by truncation selection, explore by perturbing or drawing anew. All of it
is a function of the seed, the rung and the figures: whoever asks again, after a kill, is told the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from langevin.search.space import Knobs, Settings

RESAMPLED = 0.25  # how often a knob is drawn anew, and not perturbed
ATTEMPTS = 20  # at settings that are new, of knobs that may have few


@dataclass(frozen=True)
class Exchange:
    """A member's training ends, and it goes on from another's state. replaces, source: the runs; knobs: from here on."""

    replaces: str
    source: str
    knobs: Settings


@dataclass(frozen=True)
class Copy:
    """An exchange that was made. run: the name of the training that goes on; rung: after which, counted from 0; images,
    checkpoint, sha256: of the state that it begins from, seen, its folder below the home, of its averaged weights.
    """

    run: str
    replaces: str
    source: str
    rung: int
    knobs: Settings
    images: int
    checkpoint: str
    sha256: str


@dataclass(frozen=True)
class Population:
    """knobs: that are changed; reduction: the worst 1 / reduction, one at least, copy as many of the best."""

    knobs: Knobs
    reduction: int
    seed: int

    def exchanges(self, rung: int, figures: Mapping[str, float], settings: Mapping[str, Settings]) -> list[Exchange]:
        """What is exchanged at a rung. figures, settings: of every member by its run, in an order that never changes; less
        is better, and what is infinite has no state to go on from. A member for whom nothing new is found goes on as it is.
        """
        best, worst = quantiles(figures, self.reduction)
        taken = [(run, settings[run]) for run in best]  # by the best themselves, and by each copy
        made: list[Exchange] = []
        for place, run in enumerate(figures):
            for attempt in range(ATTEMPTS if run in worst and best else 0):
                # other numbers than those of the first settings, whose counter begins at 0
                chance = np.random.Generator(np.random.Philox(key=[self.seed, place], counter=[0, attempt, rung, 1]))
                source = best[int(chance.random() * len(best))]
                found = (source, explored(self.knobs, settings[source], chance))
                if found not in taken:
                    taken.append(found)
                    made.append(Exchange(run, *found))
                    break
        return made


def quantiles(figures: Mapping[str, float], reduction: int) -> tuple[list[str], list[str]]:
    """The best and the worst 1 / reduction of a population, one at least of each, the better first; ties go by the order.
    What has no finite figure is never of the best and always of the worst.
    """
    finite = sorted((run for run in figures if math.isfinite(figures[run])), key=lambda run: figures[run])
    infinite = [run for run in figures if not math.isfinite(figures[run])]
    count = max(len(figures) // reduction, 1)
    best, ordered = finite[:count], finite + infinite
    return best, [run for run in ordered if (run in ordered[-count:] or run in infinite) and run not in best]


def explored(knobs: Knobs, settings: Settings, chance: np.random.Generator) -> Settings:
    """The settings with every knob perturbed (``near``) or, one time in four, drawn anew."""
    found: Settings = {}
    for name, knob in knobs.items():
        anew, at = chance.random(2)
        found[name] = knob.at(float(at)) if anew < RESAMPLED else knob.near(settings[name], bool(at < 0.5))
    return found
