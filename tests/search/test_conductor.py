"""What is trained next: each stretch once, within the budget, and the same whatever arrives first or is killed."""

from __future__ import annotations

import random
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from langevin.search.budget import Budget
from langevin.search.conductor import Conductor, Leg
from langevin.search.journal import Journal

RUNGS = (10, 30, 90)


@dataclass
class World:
    """Trainings whose figures are known, run in an order that a seed decides, and killed now and then."""

    figures: dict[str, list[float]]
    halving: bool = True
    budget: int | None = None

    def search(self, folder: Path, seed: int, concurrent: int = 2, kills: int = 0) -> Journal:
        chance = random.Random(seed)
        for life in range(kills + 1):
            steps = chance.randrange(1, 12) if life < kills else 10_000
            with Journal.opened(folder / "journal") as journal:
                self._live(journal, chance, concurrent, steps)
        return journal

    def _live(self, journal: Journal, chance: random.Random, concurrent: int, steps: int) -> None:
        budget = Budget(self.budget)
        conductor = Conductor(journal, budget, RUNGS, "fid", 3, self.halving)
        for run in self.figures:
            conductor.add(run, {"name": run})
        running: list[Leg] = []
        for _ in range(steps):
            while len(running) < concurrent and isinstance(leg := conductor.propose(), Leg):
                assert leg.run not in [other.run for other in running]
                running.append(leg)
            assert self.budget is None or budget.spent <= self.budget
            if not running:
                return
            leg = running[chance.randrange(len(running))]
            rung = conductor.at(leg.run)
            goes_on = conductor.reached(leg.run, {"images": RUNGS[rung], "fid": self.figures[leg.run][rung]})
            if not (goes_on and conductor.goes_on(leg.run)):
                running.remove(leg)
                conductor.ended(leg.run)


FEW = settings(max_examples=25, deadline=None)  # every line of a journal waits for the disk
FIGURES = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=2),
    st.lists(st.integers(0, 20).map(float) | st.just(float("inf")), min_size=3, max_size=3),
    min_size=1,
    max_size=12,
)
SEED = st.integers(0, 10_000)


def told(journal: Journal) -> dict[str, tuple[int, str]]:
    return {run: (len(trial.figures), trial.stopped) for run, trial in journal.trials.items()}


@FEW
@given(FIGURES, SEED, SEED, st.integers(1, 4), st.integers(0, 5))
def test_halving_ends_the_same_in_any_order_and_after_any_kills(
    figures: dict[str, list[float]], first: int, second: int, concurrent: int, kills: int
) -> None:
    world = World(figures)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        calm = told(world.search(Path(one), first, 1))
        assert told(world.search(Path(other), second, concurrent, kills)) == calm


@FEW
@given(FIGURES, SEED, st.booleans(), st.integers(0, 5))
def test_every_rung_is_reached_once(figures: dict[str, list[float]], seed: int, halving: bool, kills: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        journal = World(figures, halving).search(Path(folder), seed, kills=kills)
        assert len(set(journal.reached)) == len(journal.reached)
        assert set(journal.trials) == set(figures)
        for run, trial in journal.trials.items():
            assert [one["fid"] for one in trial.figures] == figures[run][: len(trial.figures)]


@FEW
@given(FIGURES, SEED, st.booleans(), st.integers(0, 3), st.integers(1, 1000))
def test_a_budget_is_kept_over_all_lives(
    figures: dict[str, list[float]], seed: int, halving: bool, kills: int, budget: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        journal = World(figures, halving, budget).search(Path(folder), seed, kills=kills)
        assert sum(RUNGS[len(trial.figures) - 1] for trial in journal.trials.values() if trial.figures) <= budget


def test_of_nine_three_go_on_and_one_to_the_end(tmp_path: Path) -> None:
    figures = {name: [float(place)] * 3 for place, name in enumerate("ihgfedcba")}
    found = told(World(figures).search(tmp_path, 0))
    assert {run for run, (rungs, _) in found.items() if rungs == 3} == {"i"}
    assert {run for run, (rungs, _) in found.items() if rungs == 2} == {"h", "g"}
    assert {stopped for rungs, stopped in found.values() if rungs < 3} == {"halving"}


def test_a_larger_budget_goes_on_where_a_smaller_one_ended(tmp_path: Path) -> None:
    figures = {name: [float(place)] * 3 for place, name in enumerate("abcdefghi")}
    part = told(World(figures, budget=85).search(tmp_path, 0))
    assert all(stopped == "" for _, stopped in part.values())
    assert told(World(figures).search(tmp_path, 1))["a"] == (3, "")


def test_time_is_asked_before_a_leg_and_counted_over_lives(tmp_path: Path) -> None:
    now = [0.0]
    for life, handed in ((0, True), (1, False)):
        with Journal.opened(tmp_path / "j") as journal:
            budget = Budget(seconds=60, clock=lambda: now[0])
            conductor = Conductor(journal, budget, RUNGS, "fid", 3, False)
            conductor.add(f"run {life}", {})
            leg = conductor.propose()
            assert (leg is not None) == handed
            if leg is not None:
                now[0] += 61
                assert conductor.reached("run 0", {"images": 10, "fid": 1.0})
                assert not conductor.goes_on("run 0")
                conductor.ended("run 0")
                assert conductor.propose() is None
