"""`langevin tune` and what it says of searches that cannot be run, before anything starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psutil
import pytest
from e2e.recipes import write_recipe

from .conftest import Call


def write_search(home: Path, **changes: Any) -> Path:
    search = {
        "name": "s",
        "recipe": "small.yaml",
        "training": {"model.prediction": ["noise", "velocity"]},
        "workers": 0,
    }
    path = home / "s.yaml"
    path.write_text(json.dumps(search | changes))
    return path


def test_a_search_that_is_missing(call: Call, empty: Path) -> None:
    found = call("tune", empty / "none.yaml")
    assert found.code == 2
    assert found.line.startswith(f"langevin: {empty}/none.yaml: there is no such search")


def test_a_search_without_its_data(call: Call, empty: Path) -> None:
    write_recipe(empty / "small.yaml")
    found = call("tune", write_search(empty))
    assert found.code == 2
    assert "langevin prepare" in found.line


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"training": {"train.lrr": [1e-3]}}, ["training.train.lrr", "did you mean train.lr?"]),
        ({"training": {"model.network.multipliers": [[1, 2], [1, 2, 2, 2, 2]]}}, ["model.network.multipliers", "halves"]),
        ({"concurrent": 999}, ["concurrent = 999", "this machine has", "lower it"]),
        ({"concurrent": 999, "workers": 2}, ["take 1998 CPUs"]),
    ],
)  # fmt: skip
def test_what_cannot_be_run_starts_nothing(call: Call, home: Path, changes: dict[str, Any], named: list[str]) -> None:
    before = set(psutil.Process().children(recursive=True))
    found = call("tune", write_search(home, **changes))
    assert found.code == 2
    assert [part for part in named if part not in found.line] == []
    assert set(psutil.Process().children(recursive=True)) <= before
    assert not (home / "out/s").exists()
    assert not (home / "runs/s").exists()


def test_what_a_model_does_not_have_is_no_objective(call: Call, home: Path) -> None:
    codec = {"method": "autoencoder", "network": {"channels": 8, "multipliers": [1, 2]}, "adversarial": 0.0}
    write_recipe(home / "codec.yaml", name="codec", model=codec, sample={"sampler": "own"}, bound={"kind": "latent"},
                 evaluate={"extractor": "out/small/extractor", "images": 128})  # fmt: skip
    found = call("tune", write_search(home, recipe="codec.yaml", training={"train.lr": [1e-3]}))
    assert found.code == 2
    assert "objectives = 'fid': is nothing that autoencoder has" in found.line
