"""The settings of a search: every combination, or drawn ones that a seed decides."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from langevin.search.space import Choices, Range, draws, grid

KNOBS = {"a": Choices((1, 2, 3)), "b": Choices(("x", "y"))}
UNIFORM = st.floats(0, 1, exclude_max=True)


def test_a_grid_is_every_combination_once() -> None:
    found = grid(KNOBS)
    assert found == [{"a": a, "b": b} for a in (1, 2, 3) for b in ("x", "y")]
    assert grid({}) == [{}]


def test_a_grid_of_ranges_has_their_ends() -> None:
    assert grid({"lr": Range(1e-4, 1e-2, log=True)}) == [{"lr": 1e-4}, {"lr": 1e-2}]


def test_fewer_draws_are_a_part_of_more() -> None:
    knobs = {"lr": Range(1e-4, 1e-2, log=True), "steps": Range(2, 9), "c": Choices((True, False))}
    assert draws(knobs, 3, 5) == draws(knobs, 3, 9)[:5]
    assert draws(knobs, 3, 5) != draws(knobs, 4, 5)


def test_draws_never_repeat_and_end_where_the_space_does() -> None:
    found = draws(KNOBS, 0, 50)
    assert sorted(found, key=str) == sorted(grid(KNOBS), key=str)


@given(st.integers(1, 100), st.integers(1, 100), st.booleans(), UNIFORM)
def test_whole_ranges_give_whole_numbers_within_both_ends(low: int, more: int, log: bool, uniform: float) -> None:
    knob = Range(low, low + more, log)
    value = knob.at(uniform)
    assert isinstance(value, int)
    assert low <= value <= low + more
    assert knob.at(0.0) == low
    assert knob.at(math.nextafter(1.0, 0.0)) == low + more


@given(st.floats(1e-6, 1), st.floats(2, 1e6), UNIFORM)
def test_a_range_with_log_has_its_geometric_mean_in_the_middle(low: float, high: float, uniform: float) -> None:
    knob = Range(low, high, log=True)
    assert math.isclose(knob.at(0.5), math.sqrt(low * high), rel_tol=1e-9)
    assert low * (1 - 1e-9) <= knob.at(uniform) <= high * (1 + 1e-9)
