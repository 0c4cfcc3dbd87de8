"""What is trained next, and how far: decided from the journal alone, so that a search that was killed decides the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from langevin.search.budget import Budget
from langevin.search.halving import survivors
from langevin.search.journal import Journal
from langevin.search.population import Copy, Exchange, Population
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
        budget.spent = sum(map(self.trained, journal.trials))
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
        return self.at(run) <= self._running[run].last

    def goes_on(self, run: str) -> bool:
        """Whether the budget allows the training's next rung."""
        return self.budget.begin(self._cost(self.at(run)))

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
        """The objective that decides, at a rung that the training itself has reached."""
        trial = self.journal.trials[run]
        return trial.figures[rung - trial.first][self.objective]

    def last(self, run: str) -> float:
        """The objective that decides, at the last rung that the training has reached."""
        return self.value(run, self.at(run) - 1)

    def at(self, run: str) -> int:
        """How many rungs lie behind the training."""
        if run in self.journal.trials:
            return self.journal.trials[run].reached
        copy = self.journal.copies.get(run)
        return copy.rung + 1 if copy else 0

    def trained(self, run: str) -> int:
        """The images between the rung that the training began at and the last one that it has reached."""
        trial = self.journal.trials[run]
        return sum(self._cost(rung) for rung in range(trial.first, trial.reached))

    def _cost(self, rung: int) -> int:
        return self.rungs[rung] - (self.rungs[rung - 1] if rung else 0)

    def _is_over(self, run: str) -> bool:
        trial = self.journal.trials.get(run)
        return trial is not None and (bool(trial.stopped) or trial.reached == len(self.rungs))

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
            if (found := self._to(rung, cohort)) is not None:
                return found
            there = [run for run in cohort if self.at(run) > rung]
            if rung == len(self.rungs) - 1 or not there:
                return None
            kept = survivors({run: self.value(run, rung) for run in there}, self._reduction)
            for run in there:
                if run not in kept and not self._is_over(run):
                    self.journal.stop(run, "halving")
            cohort = kept
        return None

    def _to(self, rung: int, cohort: Sequence[str]) -> Leg | Later | None:
        """A leg to the rung of one that has not reached it; None where all have."""
        missing = [run for run in cohort if self.at(run) <= rung and not self._is_over(run)]
        idle = next((run for run in missing if run not in self._running), None)
        if idle is not None:
            return Leg(idle, rung, rung)
        return Later.LATER if missing else None


class Evolution(Conductor):
    """Of a population: all are trained to a rung, then the worst go on from the best's states, until the last rung.

    branch: makes a training that begins from the source's state at the rung, and keeps that state for it; it is asked
    before the exchange is noted, and again for the same where a kill came between.
    """

    def __init__(
        self, journal: Journal, budget: Budget, rungs: Sequence[int], objective: str, population: Population,
        branch: Callable[[Exchange, int], Copy],
    ) -> None:  # fmt: skip
        super().__init__(journal, budget, rungs, objective, population.reduction, halving=True)
        self.population, self._branch = population, branch
        self.candidates |= {run: copy.knobs for run, copy in journal.copies.items()}

    def _next(self) -> Leg | Later | None:
        cohort = [run for run in self.candidates if run not in self.journal.copies]
        for rung in range(len(self.rungs)):
            if (found := self._to(rung, cohort)) is not None:
                return found
            if rung < len(self.rungs) - 1:
                cohort = self._exchanged(rung, [run for run in cohort if self.at(run) > rung])
        return None

    def _exchanged(self, rung: int, members: Sequence[str]) -> list[str]:
        """The members after the exchanges of the rung, each in its place."""
        if rung not in self.journal.exchanged:
            figures = {run: self.value(run, rung) for run in members}
            exchanges = self.population.exchanges(rung, figures, self.candidates)
            self.journal.exchange(rung, [self._branch(exchange, rung) for exchange in exchanges])
            self.candidates |= {copy.run: copy.knobs for copy in self.journal.exchanged[rung]}
        successors = {copy.replaces: copy.run for copy in self.journal.exchanged[rung]}
        return [successors.get(run, run) for run in members]
