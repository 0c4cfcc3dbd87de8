"""The trials of a search on Ray Tune: it has the workers, the early stopping and Optuna.

What is known of a search stands in its journal, and not in Tune: `Tuner.restore` reads its own state, which is up to ten
seconds old after a kill and a pickle besides, and would run again what was reported since. So every life of a search is a
new Tuner, which is given what is left to do, and whose scheduler is told first what was decided before. Nor is a population
Tune's: its own copies the checkpoints of Tune, of which a training inside has none, and decides by a generator of its own.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from langevin.cluster.early_stopping import WORST, scheduler
from langevin.cluster.proposals import Thinking, proposals
from langevin.cluster.session import session
from langevin.errors import LangevinError
from langevin.search.conductor import Conductor, Leg


class Advance(Protocol):
    """Brings a training to a rung and measures it there, in a worker: its images and figures."""

    def __call__(self, trial: Any, rung: int) -> dict[str, float]: ...


@dataclass(frozen=True)
class Tuning:
    """How the trials run. concurrent: at a time; workers: CPUs of each, 0 for one in the trial's own process;
    reduction: of ASHA, None for no early stopping by Tune; folder: Tune's own files, of one life.
    """

    concurrent: int
    workers: int
    reduction: int | None
    folder: Path
    thinking: Thinking | None = None


def run_trials(
    conductor: Conductor, tuning: Tuning, trial_of: Callable[[Leg], Any], advance: Advance, address: str | None
) -> None:
    """Runs whatever the conductor hands out. trial_of: what ``advance`` is told of a leg. LangevinError where one fails."""
    shutil.rmtree(tuning.folder, ignore_errors=True)
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # it would end as if all were done
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    cpus = tuning.concurrent * max(tuning.workers, 1)
    with session(address, cpus):
        from ray import tune

        tuner = tune.Tuner(
            _trainable(advance, conductor.objective, tuning),
            tune_config=tune.TuneConfig(
                metric="value",
                mode="min",
                search_alg=proposals(conductor, tuning.thinking, trial_of),
                scheduler=scheduler(conductor, tuning.reduction),
                num_samples=-1,
                max_concurrent_trials=tuning.concurrent,
                reuse_actors=True,  # a new process takes longer to import torch than a small model to reach a rung
                trial_name_creator=lambda trial: trial.trial_id,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(name=tuning.folder.name, storage_path=str(tuning.folder.parent), verbose=0),
        )
        results = tuner.fit()
        if results.errors:
            raise LangevinError(f"a trial of the search failed: {_last_line(results.errors[0])}") from results.errors[0]
    shutil.rmtree(tuning.folder, ignore_errors=True)


def _trainable(advance: Advance, objective: str, tuning: Tuning) -> Any:
    from ray import tune

    class Trial(tune.Trainable):
        """A leg: every step is a rung."""

        def setup(self, config: dict[str, Any]) -> None:
            self.trial, self.leg = config["trial"], config["leg"]
            self.rung = self.leg.first

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.setup(new_config)
            return True

        def step(self) -> dict[str, Any]:
            rung, self.rung = self.rung, self.rung + 1
            figures = advance(self.trial, rung)
            # as text: Tune would take a table apart
            value = min(figures[objective], WORST)
            return {"run": self.leg.run, "rung": rung, "value": value, "figures": json.dumps(figures)}

        def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
            return {}  # the training has its own, below its run's folder

    # the driver of a Ray Train computes nothing: its workers have the CPUs, and it must not take one from them
    resources: Any = {"CPU": 1} if tuning.workers == 0 else tune.PlacementGroupFactory([{"memory": 1}])
    return tune.with_resources(Trial, resources)


def _last_line(error: BaseException) -> str:
    lines: Sequence[str] = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1]
