"""Population-based training: who copies whom with which knobs, and the same again after any kill."""

from __future__ import annotations

import math
import random
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from langevin.search.budget import Budget
from langevin.search.conductor import Evolution, Leg
from langevin.search.journal import Journal
from langevin.search.population import Copy, Exchange, Population, explored, quantiles
from langevin.search.space import Choices, Range, Settings, draws

KNOBS = {"lr": Range(1e-4, 1e-2, log=True), "warmup": Range(0, 50), "weighting": Choices(("a", "b", "c"))}
FIGURES = st.lists(st.integers(0, 20).map(float) | st.just(math.inf), min_size=2, max_size=12).map(
    lambda values: {f"run {place}": value for place, value in enumerate(values)}
)


@given(FIGURES, st.integers(2, 5))
def test_the_worst_give_way_to_the_best_and_what_diverged_always(figures: dict[str, float], reduction: int) -> None:
    best, worst = quantiles(figures, reduction)
    count = max(len(figures) // reduction, 1)
    finite = sorted(value for value in figures.values() if math.isfinite(value))
    assert [figures[run] for run in best] == finite[:count]
    assert set(best).isdisjoint(worst)
    assert {run for run, value in figures.items() if math.isinf(value)} <= set(worst)
    assert len(worst) <= max(count, len(figures) - len(finite))
    for run in set(figures) - set(best) - set(worst):
        assert all(figures[run] >= figures[other] for other in best)
        assert all(figures[run] <= figures[other] for other in worst)


@given(FIGURES, st.integers(0, 5), st.integers(0, 2**32))
def test_an_exchange_is_a_function_of_seed_rung_and_figures(figures: dict[str, float], rung: int, seed: int) -> None:
    known = dict(zip(figures, draws(KNOBS, 0, len(figures)), strict=True))
    population = Population(KNOBS, 3, seed)
    made = population.exchanges(rung, figures, known)
    assert made == population.exchanges(rung, dict(figures), dict(known))
    best, worst = quantiles(figures, 3)
    assert [one.replaces for one in made] == [run for run in figures if run in worst] * bool(best)
    assert {one.source for one in made} <= set(best)
    assert all(one.knobs != known[one.source] for one in made)


def test_another_seed_or_rung_exchanges_otherwise() -> None:
    figures = {f"run {place}": float(place) for place in range(12)}
    known = dict(zip(figures, draws(KNOBS, 0, 12), strict=True))
    made = [Population(KNOBS, 3, seed).exchanges(rung, figures, known) for seed in (0, 1) for rung in (0, 1)]
    assert all(one != other for place, one in enumerate(made) for other in made[:place])


def test_where_nothing_new_is_left_a_member_goes_on_as_it_is() -> None:
    knobs = {"weighting": Choices(("a", "b"))}
    figures = {f"run {place}": float(place) for place in range(4)}
    made = Population(knobs, 2, 0).exchanges(0, figures, {run: {"weighting": "a"} for run in figures})
    assert {(one.source, one.knobs["weighting"]) for one in made} == {("run 0", "b"), ("run 1", "b")}
    alone = Population({"weighting": Choices(("a",))}, 2, 0)
    assert alone.exchanges(0, figures, {run: {"weighting": "a"} for run in figures}) == []


def test_a_knob_is_perturbed_by_a_fifth_three_times_in_four_and_stays_in_its_range() -> None:
    chance, given = np.random.default_rng(0), {"lr": 1e-3, "warmup": 20, "weighting": "b"}
    found = [explored(KNOBS, given, chance) for _ in range(2000)]
    perturbed = [one["lr"] for one in found if one["lr"] in (1e-3 * 0.8, 1e-3 * 1.2)]
    assert abs(len(perturbed) / 2000 - 0.75) < 0.05
    assert abs(sum(value > 1e-3 for value in perturbed) / len(perturbed) - 0.5) < 0.05
    assert all(1e-4 <= one["lr"] <= 1e-2 and 0 <= one["warmup"] <= 50 for one in found)
    assert {16, 24} <= {one["warmup"] for one in found}
    assert {one["weighting"] for one in found} == {"a", "b", "c"}


def test_near_the_ends() -> None:
    assert Range(1e-3, 1e-2).near(9e-3, True) == 1e-2
    assert Range(1, 9).near(2, True) == 3
    assert Range(1, 9).near(2, False) == 1
    assert [Choices(("a", "b")).near("b", more) for more in (True, False)] == ["b", "a"]


RUNGS = (10, 30, 90, 100)


@dataclass
class World:
    """A population whose figures are a function of run and rung, lived in an order that a seed decides, killed now and then."""

    seed: int
    size: int = 6
    budget: int | None = None
    branched: list[str] = field(default_factory=list)

    def figure(self, run: str, rung: int) -> float:
        value = random.Random(f"{self.seed} {run} {rung}").random()
        return math.inf if value > 0.95 else value

    def branch(self, exchange: Exchange, rung: int) -> Copy:
        run = f"{exchange.source}/{rung}:{sorted(exchange.knobs.items())}"
        self.branched.append(run)
        return Copy(run, exchange.replaces, exchange.source, rung, exchange.knobs, RUNGS[rung], "", "")

    def search(self, folder: Path, order: int, concurrent: int, kills: int = 0) -> Journal:
        chance = random.Random(order)
        for life in range(kills + 1):
            steps = chance.randrange(1, 12) if life < kills else 10_000
            with Journal.opened(folder / "journal") as journal:
                self._live(journal, chance, concurrent, steps)
        return journal

    def _live(self, journal: Journal, chance: random.Random, concurrent: int, steps: int) -> None:
        conductor = Evolution(journal, Budget(self.budget), RUNGS, "fid", Population(KNOBS, 3, self.seed), self.branch)
        first: list[Settings] = draws(KNOBS, self.seed, self.size)
        for place, knobs in enumerate(first):
            conductor.add(f"run {place}", knobs)
        running: list[Leg] = []
        for _ in range(steps):
            while len(running) < concurrent and isinstance(leg := conductor.propose(), Leg):
                running.append(leg)
            if not running:
                return
            leg = running.pop(chance.randrange(len(running)))
            rung = conductor.at(leg.run)
            assert leg == Leg(leg.run, rung, rung)
            assert not conductor.reached(leg.run, {"images": RUNGS[rung], "fid": self.figure(leg.run, rung)})
            conductor.ended(leg.run)


SEED = st.integers(0, 10_000)


def told(journal: Journal) -> dict[str, tuple[object, ...]]:
    return {run: (trial.figures, trial.stopped, trial.copy) for run, trial in journal.trials.items()}


@settings(max_examples=25, deadline=None)  # every line of a journal waits for the disk
@given(SEED, SEED, SEED, st.integers(1, 4), st.integers(0, 5))
def test_a_population_ends_the_same_in_any_order_and_after_any_kills(
    seed: int, first: int, second: int, concurrent: int, kills: int
) -> None:
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        calm, world = told(World(seed).search(Path(one), first, 1)), World(seed)
        journal = world.search(Path(other), second, concurrent, kills)
        assert told(journal) == calm
        assert len(set(journal.reached)) == len(journal.reached)
        assert len(set(world.branched)) == len(world.branched)


@settings(max_examples=25, deadline=None)
@given(SEED, SEED, st.integers(0, 3), st.integers(1, 700))
def test_a_population_keeps_its_budget_and_trains_as_much_as_its_members_alone(
    seed: int, order: int, kills: int, images: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        journal = World(seed, budget=images).search(Path(folder), order, 2, kills)
        spent = sum(RUNGS[rung] - (RUNGS[rung - 1] if rung else 0) for _, rung in journal.reached)
        assert spent <= images
    with tempfile.TemporaryDirectory() as folder:
        journal = World(seed).search(Path(folder), order, 2)
        for rung in range(len(RUNGS)):
            assert sum(at == rung for _, at in journal.reached) == 6


def test_a_kill_while_a_rung_is_decided_leaves_all_of_it_or_nothing(tmp_path: Path) -> None:
    World(3).search(tmp_path, 0, 1)
    whole = (tmp_path / "journal").read_bytes()
    calm = whole.splitlines()
    exchange = whole.index(b'{"kind": "exchange"')
    for size in (exchange, exchange + 40, whole.index(b"\n", exchange) + 1):
        (tmp_path / "journal").write_bytes(whole[:size])
        World(3).search(tmp_path, 0, 1)
        assert [line for line in (tmp_path / "journal").read_bytes().splitlines() if b"exchange" in line] == [
            line for line in calm if b"exchange" in line
        ]
