"""What is tried next, as Ray Tune asks: the conductor's legs, and settings that Optuna thinks of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from langevin.cluster.early_stopping import WORST
from langevin.search.conductor import Conductor, Later, Leg
from langevin.search.space import Choices, Knobs, Settings


@dataclass(frozen=True)
class Thinking:
    """What Optuna thinks of settings with. register: makes a training of them, None where there is one already."""

    knobs: Knobs
    seed: int
    trials: int
    register: Callable[[Settings], str | None]


def proposals(conductor: Conductor, thinking: Thinking | None, trial_of: Callable[[Leg], Any]) -> Any:
    """Tune's searcher that hands out the conductor's legs. trial_of: what a worker is told of one."""
    from ray.tune.search import Searcher

    class Proposals(Searcher):
        """The conductor's legs as Tune asks for them."""

        def __init__(self) -> None:
            super().__init__(metric="value", mode="min")
            self.optuna = _Optuna(conductor, thinking) if thinking else None

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
        return min(self.conductor.last(run), WORST)


def _domain(knob: Any) -> Any:
    from ray import tune

    if isinstance(knob, Choices):
        return tune.choice(list(range(len(knob.values))))
    if knob.is_whole:  # Tune's upper ends are left out
        return (tune.lograndint if knob.log else tune.randint)(knob.low, knob.high + 1)
    return (tune.loguniform if knob.log else tune.uniform)(knob.low, knob.high)
