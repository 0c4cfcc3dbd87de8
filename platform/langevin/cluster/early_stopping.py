"""Which trials go on at a rung, as Ray Tune asks: the budget, and its ASHA."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from langevin.search.conductor import Conductor

WORST = 1e30  # in the place of infinity, between two of which no percentile can be taken


def scheduler(conductor: Conductor, reduction: int | None) -> Any:
    """Tune's scheduler for the conductor's legs. reduction: of ASHA, None for no early stopping by Tune."""
    from ray.tune.schedulers import FIFOScheduler, TrialScheduler

    class Conducted(FIFOScheduler):
        """Notes every result before anything is decided on it, and asks the budget before anything goes on."""

        def __init__(self) -> None:
            super().__init__()
            self.asha = None if reduction is None else _Asha(conductor, reduction)

        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
            run, rung, figures = result["run"], result["rung"], json.loads(result["figures"])
            goes_on = conductor.reached(run, figures)
            if self.asha and self.asha.stops(run, rung, figures[conductor.objective]) and goes_on:
                conductor.stopped(run, "asha")
                goes_on = False
            if goes_on and conductor.goes_on(run):
                return TrialScheduler.CONTINUE
            conductor.ended(run)
            return TrialScheduler.STOP

        def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
            conductor.failed(trial.config["leg"].run)

    return Conducted()


class _Asha:
    """Tune's ASHA (Li et al. 2020), told first all that was decided in earlier lives of the search, in that order."""

    def __init__(self, conductor: Conductor, reduction: int) -> None:
        from ray.tune.schedulers import AsyncHyperBandScheduler

        self.last = len(conductor.rungs) - 1
        # its rungs are powers of the reduction and ours are images: it counts rungs
        self.milestones = [reduction**rung for rung in range(self.last + 1)]
        self.asha = AsyncHyperBandScheduler(
            "milestone", "value", "min", max_t=self.milestones[-1], grace_period=1, reduction_factor=reduction
        )
        for run, rung in conductor.journal.reached:
            self.stops(run, rung, conductor.value(run, rung))

    def stops(self, run: str, rung: int, value: float) -> bool:
        """Whether a training is given up; the last rung needs no decision."""
        if rung == self.last:
            return False
        trial: Any = _Known(run)
        controller: Any = None
        self.asha.on_trial_add(controller, trial)
        result = {"milestone": self.milestones[rung], "value": min(value, WORST)}
        return self.asha.on_trial_result(controller, trial, result) == self.asha.STOP


@dataclass(frozen=True)
class _Known:
    """A trial as ASHA sees it: a training's name, which is the same in every life of the search."""

    trial_id: str
