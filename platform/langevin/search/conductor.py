"""What is trained next, and how far: decided from the journal alone, so that a search that was killed decides the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from langevin.search.budget import Budget
from langevin.search.halving import survivors
from langevin.search.journal import Journal
from langevin.search.space import Settings


class Later(Enum):
    """Nothing can be begun until something that runs has ended."""

    LATER = "later"


@dataclass(frozen=True)
class Leg:
    """A stretch of a training: from where it is through the rungs ``first`` to ``last``, which count from 0."""

    run: str
    first: int
    last: int


class Conductor:
    """Hands out legs, each once, and takes what came of them.

    rungs: in images, the last of them a whole training; halving: whether a rung waits for all, of which the best
    1 / ``reduction`` go on; else every training is handed out to its end, for somebody else to stop.
    """

    def __init__(
        self, journal: Journal, budget: Budget, rungs: Sequence[int], objective: str, reduction: int, halving: bool
    ) -> None:
        self.journal, self.budget, self.rungs, self.objective = journal, budget, rungs, objective
        self._reduction, self._halving = reduction, halving
        self.candidates: dict[str, Settings] = {run: trial.knobs for run, trial in journal.trials.items()}
        self._running: dict[str, Leg] = {}
        self._exhausted = False
        budget.spent = sum(self.rungs[len(trial.figures) - 1] for trial in journal.trials.values() if trial.figures)
        budget.before = journal.seconds

    def add(self, run: str, knobs: Settings) -> bool:
        """One more training to do; False where it is known already: one training has one name."""
        if run in self.candidates:
            return False
        self.candidates[run] = knobs
        return True

    def propose(self) -> Leg | Later | None:
        """The next leg; None where there is none, or the budget does not allow it."""
        found = None if self._exhausted else self._next()
        if isinstance(found, Leg):
            if self.budget.begin(self._cost(found.first)):
                self._running[found.run] = found
                if found.run not in self.journal.trials:
                    self.journal.begun(found.run, self.candidates[found.run])
                return found
            self._exhausted = True
            return None
        return found

    @property
    def has_work(self) -> bool:
        """Whether anything is left to hand out, a budget allowing."""
        return isinstance(self._next(), Leg)

    def reached(self, run: str, figures: dict[str, float]) -> bool:
        """Notes what a training has at its next rung; whether its leg goes on, which must then be confirmed."""
        self.journal.figures(run, figures, self.budget.elapsed)
        if not math.isfinite(figures[self.objective]):
            self.journal.stop(run, "diverged")
            return False
        return len(self.journal.trials[run].figures) <= self._running[run].last

    def goes_on(self, run: str) -> bool:
        """Whether the budget allows the training's next rung."""
        return self.budget.begin(self._cost(len(self.journal.trials[run].figures)))

    def stopped(self, run: str, why: str) -> None:
        self.journal.stop(run, why)

    def ended(self, run: str) -> None:
        """The leg is over, one way or another."""
        self._running.pop(run, None)

    def failed(self, run: str) -> None:
        """The leg failed, and would again: nothing more is handed out in this life of the search."""
        self.ended(run)
        self._exhausted = True

    def value(self, run: str, rung: int) -> float:
        """The objective that decides."""
        return self.journal.trials[run].figures[rung][self.objective]

    def at(self, run: str) -> int:
        """How many rungs the training has reached."""
        return len(self.journal.trials[run].figures) if run in self.journal.trials else 0

    def _cost(self, rung: int) -> int:
        return self.rungs[rung] - (self.rungs[rung - 1] if rung else 0)

    def _is_over(self, run: str) -> bool:
        trial = self.journal.trials.get(run)
        return trial is not None and (bool(trial.stopped) or len(trial.figures) == len(self.rungs))

    def _next(self) -> Leg | Later | None:
        if self._halving:
            return self._halved()
        for run in self.candidates:
            if run not in self._running and not self._is_over(run):
                return Leg(run, self.at(run), len(self.rungs) - 1)
        return None

    def _halved(self) -> Leg | Later | None:
        cohort = list(self.candidates)
        for rung in range(len(self.rungs)):
            missing = [run for run in cohort if self.at(run) <= rung and not self._is_over(run)]
            for run in missing:
                if run not in self._running:
                    return Leg(run, rung, rung)
            if missing:
                return Later.LATER
            there = [run for run in cohort if self.at(run) > rung]
            if rung == len(self.rungs) - 1 or not there:
                return None
            kept = survivors({run: self.value(run, rung) for run in there}, self._reduction)
            for run in there:
                if run not in kept and not self._is_over(run):
                    self.journal.stop(run, "halving")
            cohort = kept
        return None
