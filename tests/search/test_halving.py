"""Successive halving: who stays, how many images a round draws, and what that costs."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langevin.search.halving import drawn, rounds, survivors

FIGURES = st.dictionaries(st.text("abc", min_size=1), st.floats(0, 10) | st.just(math.inf), min_size=1, max_size=30)


@given(FIGURES, st.integers(2, 5))
def test_those_that_stay_are_the_best_and_as_many_as_asked(figures: dict[str, float], reduction: int) -> None:
    kept = survivors(figures, reduction)
    finite = [value for value in figures.values() if math.isfinite(value)]
    assert len(kept) == min(math.ceil(len(figures) / reduction), len(finite))
    assert [figures[name] for name in kept] == sorted(finite)[: len(kept)]


@given(st.permutations(list("abcdefgh")), st.lists(st.integers(0, 3), min_size=8, max_size=8))
def test_the_order_of_arrival_decides_nothing(names: list[str], values: list[int]) -> None:
    figures = dict(zip("abcdefgh", map(float, values), strict=True))
    assert survivors({name: figures[name] for name in names}, 3) == survivors(figures, 3)


@given(st.integers(1, 200), st.integers(64, 5000))
def test_rounds_rise_to_all_images_and_end_with_two_candidates_or_more(candidates: int, most: int) -> None:
    counts = rounds(candidates, most, 64)
    assert counts == sorted(set(counts))
    assert counts[-1] == most
    assert counts[0] >= min(64, most)
    assert candidates == 1 or math.ceil(candidates / 2 ** (len(counts) - 1)) >= 2


def test_one_candidate_is_one_round() -> None:
    assert rounds(1, 1250, 64) == [1250]


@pytest.mark.parametrize("most", [1250, 2000, 5000, 50_000])
def test_twenty_settings_cost_a_third_of_all_of_them_whole_at_most(most: int) -> None:
    assert drawn(20, rounds(20, most, 64)) <= 20 * most / 3


@given(st.integers(1, 200), st.integers(64, 5000))
def test_halving_never_costs_more_than_everything_whole(candidates: int, most: int) -> None:
    assert drawn(candidates, rounds(candidates, most, 64)) <= candidates * most
