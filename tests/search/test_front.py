"""The Pareto front by its definition."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from langevin.search.front import dominates, front, order

POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=20)


def test_an_example() -> None:
    points = [(3.0, 10.0), (2.0, 20.0), (2.5, 25.0), (4.0, 10.0), (1.0, 50.0)]
    assert front(points) == [0, 1, 4]
    assert order(points) == [4, 1, 0, 2, 3]


@given(POINTS)
def test_nothing_dominates_the_front_and_the_front_dominates_the_rest(points: list[tuple[float, ...]]) -> None:
    found = front(points)
    for place, point in enumerate(points):
        beaten = any(dominates(points[at], point) for at in found)
        assert beaten == (place not in found)


@given(POINTS)
def test_an_order_holds_everything_once_and_nothing_before_what_dominates_it(points: list[tuple[float, ...]]) -> None:
    found = order(points)
    assert sorted(found) == list(range(len(points)))
    for early, late in ((a, b) for i, a in enumerate(found) for b in found[i + 1 :]):
        assert not dominates(points[late], points[early])


@given(POINTS)
def test_the_best_by_the_first_objective_comes_first(points: list[tuple[float, ...]]) -> None:
    assert points[order(points)[0]] == min(points)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=20))
def test_one_objective_is_a_sorted_list(values: list[float]) -> None:
    assert [values[at] for at in order([(value,) for value in values])] == sorted(values)
