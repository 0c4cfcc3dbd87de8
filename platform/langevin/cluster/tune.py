"""The trials of a search on Ray Tune, the one place that imports it: it has the workers and the early stopping.

What is known of a search stands in its journal, and not in Tune: `Tuner.restore` reads its own state, which is up to ten
seconds old after a kill and a pickle besides, and would run again what was reported since. So every life of a search is a
new Tuner, which is given what is left to do, and whose scheduler is told first what was decided before.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from langevin.cluster.session import session
from langevin.errors import LangevinError
from langevin.search.conductor import Conductor, Later, Leg
from langevin.search.space import Choices, Knobs, Settings

WORST = 1e30  # in the place of infinity, between two of which no percentile can be taken


class Advance(Protocol):
    """Brings a training to a rung and measures it there, in a worker: its images and figures."""

    def __call__(self, trial: Any, rung: int) -> dict[str, float]: ...


@dataclass(frozen=True)
class Thinking:
    """What Optuna thinks of settings with. register: makes a training of them, None where there is one already."""

    knobs: Knobs
    seed: int
    trials: int
    register: Callable[[Settings], str | None]


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

        proposals = _proposals(conductor, tuning, trial_of)
        tuner = tune.Tuner(
            _trainable(advance, conductor.objective, tuning),
            tune_config=tune.TuneConfig(
                metric="value",
                mode="min",
                search_alg=proposals,
                scheduler=_scheduler(conductor, tuning),
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


def _scheduler(conductor: Conductor, tuning: Tuning) -> Any:
    from ray.tune.schedulers import FIFOScheduler, TrialScheduler

    class Conducted(FIFOScheduler):
        """Notes every result before anything is decided on it, and asks the budget before anything goes on."""

        def __init__(self) -> None:
            super().__init__()
            self.asha = None if tuning.reduction is None else _Asha(conductor, tuning.reduction)

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


def _proposals(conductor: Conductor, tuning: Tuning, trial_of: Callable[[Leg], Any]) -> Any:
    from ray.tune.search import Searcher

    class Proposals(Searcher):
        """The conductor's legs as Tune asks for them."""

        def __init__(self) -> None:
            super().__init__(metric="value", mode="min")
            self.optuna = _Optuna(conductor, tuning.thinking) if tuning.thinking else None

        def suggest(self, trial_id: str) -> Any:
            leg = conductor.propose()
            if leg is None and self.optuna and self.optuna.think(trial_id):
                leg = conductor.propose()
            if isinstance(leg, Later):
                return None
            return self.FINISHED if leg is None else {"leg": leg, "trial": trial_of(leg)}

        def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
            if self.optuna and result and not error:
                self.optuna.learn(trial_id, result["run"])

        def save(self, checkpoint_path: str) -> None: ...

        def restore(self, checkpoint_path: str) -> None: ...

    return Proposals()


class _Optuna:
    """Optuna's sampler. Choices are told it by their places: it compares values, and ours may be lists."""

    def __init__(self, conductor: Conductor, thinking: Thinking) -> None:
        from ray.tune.search.optuna import OptunaSearch

        self.conductor, self.thinking = conductor, thinking
        # other settings than in the life before, of which it does not know what it thought of last
        seed = thinking.seed + len(conductor.candidates)
        space = {name: _domain(knob) for name, knob in thinking.knobs.items()}
        self.search = OptunaSearch(space, metric="value", mode="min", seed=seed)
        self.thought: set[str] = set()
        for run, trial in conductor.journal.trials.items():
            if trial.figures:
                self.search.add_evaluated_point(self._placed(trial.knobs), self._value(run))

    def think(self, trial_id: str) -> bool:
        """Whether it thought of settings that are new."""
        for attempt in range(20 if len(self.conductor.candidates) < self.thinking.trials else 0):
            own = trial_id if attempt == 0 else f"{trial_id}-{attempt}"
            found = self.search.suggest(own)
            assert found is not None
            settings = {name: knob.values[found[name]] if isinstance(knob, Choices) else found[name]
                        for name, knob in self.thinking.knobs.items()}  # fmt: skip
            if self.thinking.register(settings) is not None:
                self.thought.add(own)
                return True
            self.search.on_trial_complete(own, error=True)
        return False

    def learn(self, trial_id: str, run: str) -> None:
        if trial_id in self.thought:
            self.search.on_trial_complete(trial_id, {"value": self._value(run)})
        else:  # of an earlier life, or of a second thought
            self.search.add_evaluated_point(self._placed(self.conductor.candidates[run]), self._value(run))

    def _placed(self, settings: Settings) -> Settings:
        return {name: knob.values.index(settings[name]) if isinstance(knob, Choices) else settings[name]
                for name, knob in self.thinking.knobs.items()}  # fmt: skip

    def _value(self, run: str) -> float:
        return min(self.conductor.value(run, -1), WORST)


def _domain(knob: Any) -> Any:
    from ray import tune

    if isinstance(knob, Choices):
        return tune.choice(list(range(len(knob.values))))
    if knob.is_whole:  # Tune's upper ends are left out
        return (tune.lograndint if knob.log else tune.randint)(knob.low, knob.high + 1)
    return (tune.loguniform if knob.log else tune.uniform)(knob.low, knob.high)


def _last_line(error: BaseException) -> str:
    lines: Sequence[str] = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1]
