"""Errors: one line that says where, what and how to mend it, also after a way through a worker process."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest

from langevin.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    LangevinError,
    NumericsError,
    RegistryError,
    TrackingError,
    UserError,
)

MISTAKES = [UserError, ConfigError, DataError, CheckpointError, RegistryError]


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_is_one_line_of_place_problem_and_mend(kind: type[UserError]) -> None:
    error = kind("is too large", file=Path("a/b.yaml"), field="train.lr", value=3.5, mend="take less\n\tthan 1")
    assert str(error) == "a/b.yaml: train.lr = 3.5: is too large; take less than 1"


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        ({}, "went wrong"),
        ({"file": "x"}, "x: went wrong"),
        ({"field": "f"}, "f: went wrong"),
        ({"value": "v"}, "'v': went wrong"),
        ({"field": "f", "value": 0}, "f = 0: went wrong"),
        ({"field": "f", "value": False}, "f = False: went wrong"),
        ({"field": "f", "value": ""}, "f = '': went wrong"),
        ({"mend": "mend it"}, "went wrong; mend it"),
    ],
)
def test_parts_may_be_missing(parts: dict[str, Any], line: str) -> None:
    assert str(ConfigError("went wrong", **parts)) == line


@pytest.mark.parametrize("kind", MISTAKES)
@pytest.mark.parametrize("way", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy])
def test_a_mistake_survives_the_way_through_a_process(kind: type[UserError], way: object) -> None:
    error = kind("is damaged", file=Path("shard.tar"), field="offset", value=512, mend="fetch it again")
    again = way(error)  # type: ignore[operator]
    assert type(again) is kind
    assert str(again) == str(error)
    assert (again.file, again.field, again.value, again.mend) == (error.file, error.field, error.value, error.mend)


def test_exit_codes_tell_mistakes_from_failures() -> None:
    assert {kind.exit_code for kind in MISTAKES} == {2}
    assert {kind.exit_code for kind in (LangevinError, NumericsError, TrackingError)} == {1}
    assert all(issubclass(kind, LangevinError) for kind in (*MISTAKES, NumericsError, TrackingError))
    assert not issubclass(NumericsError, UserError)
