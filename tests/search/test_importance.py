"""Importance against functions whose variance is known knob by knob."""

from __future__ import annotations

import math

import pytest

from langevin.search.importance import importance
from langevin.search.space import Choices, Range, draws, grid


def test_the_shares_are_those_of_a_sum_of_effects() -> None:
    """f = 3 a + b over a, b in {0, 1}: 9 of 10 parts of the variance are a's; c does nothing, d is never moved."""
    knobs = {"a": Choices((0, 1)), "b": Choices((0, 1)), "c": Choices(([1, 2], None)), "d": Choices(("one",))}
    settings = grid(knobs)
    found = importance(knobs, settings, [3.0 * one["a"] + one["b"] for one in settings])
    assert found.keys() == {"a", "b", "c"}
    assert sum(found.values()) == pytest.approx(1)
    assert found["a"] == pytest.approx(0.9, abs=0.05)
    assert found["c"] == pytest.approx(0, abs=0.02)
    diverged = importance(knobs, settings, [math.inf, *(3.0 * one["a"] + one["b"] for one in settings[1:])])
    assert diverged["a"] > 0.8


def test_ranges_count_as_they_are_searched() -> None:
    knobs = {"lr": Range(1e-4, 1e-2, log=True), "steps": Range(1, 100)}
    settings = draws(knobs, 0, 40)
    found = importance(knobs, settings, [abs(math.log10(one["lr"]) + 3) for one in settings])
    assert found["lr"] > 0.9


def test_what_diverged_is_left_out_and_too_few_say_nothing() -> None:
    knobs = {"a": Choices((0, 1, 2, 3)), "b": Choices((0, 1))}
    settings = grid(knobs)
    values = [float(one["a"]) for one in settings]
    assert importance(knobs, settings, [*values[:3], *[math.inf] * 5]) == {}
    assert importance(knobs, settings, [1.0] * 8) == {}
    assert importance(knobs, settings[:1] * 8, values) == {}
