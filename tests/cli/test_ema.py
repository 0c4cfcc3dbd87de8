"""`langevin ema`: the average of another length as a checkpoint that the other commands use."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from e2e.recipes import write_recipe

from langevin.config.load import restore
from langevin.training import checkpoint as checkpoints
from langevin.training import snapshots

from .conftest import Call

STDS = [0.05, 0.2]
TRAIN: dict[str, Any] = {"train__images": 384, "train__ema_stds": STDS, "train__snapshot_every": 32}


@pytest.fixture
def recipe(home: Path) -> Path:
    shutil.copytree(home / "out/small/extractor", home / "out/averaged/extractor")
    return write_recipe(home / "averaged.yaml", name="averaged", **TRAIN)


def pointed(home: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((home / "out/averaged/training.json").read_text())
    return found


def test_another_length_is_made_used_and_left_again(call: Call, home: Path, recipe: Path) -> None:
    assert call("train", recipe).code == 0
    trained = pointed(home)
    run = home / "runs" / trained["run"]
    kept = snapshots.every(run / "snapshots")
    assert [(one.profile.end, one.profile.std) for one in kept] == [(n, s) for n in range(32, 385, 32) for s in STDS]

    found = call("ema", recipe, "--std", "0.1", "--json")
    assert found.code == 0
    made, said = json.loads(found.out), pointed(home)
    assert said == trained | {
        "checkpoint": f"runs/{trained['run']}/posthoc/0.1",
        "sha256": made["sha256"],
        "ema_std": 0.1,
    }
    assert (made["snapshots"], made["sha256"] != trained["sha256"]) == (24, True)
    assert 0 < made["profile_error"] < 0.02
    checkpoint = checkpoints.read(home / said["checkpoint"])
    assert (checkpoint.images, checkpoint.sha256, sorted(checkpoint.files)) == (
        384,
        made["sha256"],
        ["ema.safetensors"],
    )
    restore(checkpoint)

    # another time it is the same file; a tracked length is the weights that served
    again = json.loads(call("ema", recipe, "--std", "0.1", "--json").out)
    assert again == made
    tracked = json.loads(call("ema", recipe, "--std", "0.05", "--json").out)
    served, mixed = (checkpoints.average(checkpoints.read(home / place["checkpoint"])) for place in (trained, tracked))
    assert served.keys() == mixed.keys()
    assert max(float((served[name] - mixed[name]).abs().max()) for name in served) < 1e-6

    # what follows uses it
    assert call("ema", recipe, "--std", "0.1").out.startswith(f"ema: {trained['run']}: std 0.1 from 24 snapshots -> ")
    assert call("evaluate", recipe).code == 0
    assert call("promote", recipe).code == 0
    promoted = json.loads((home / "out/averaged/promotion.json").read_text())
    assert (promoted["sha256"], promoted["alias"]) == (made["sha256"], "champion")
    assert call("generate", recipe, "--images", "16").code == 0

    assert call("train", recipe).code == 0
    assert pointed(home) == trained


def test_a_length_that_there_is_not(call: Call, home: Path, recipe: Path) -> None:
    for std in ("0", "0.29", "-0.1", "nan"):
        found = call("ema", recipe, "--std", std)
        assert found.code == 2
        assert found.line == (
            f"langevin: --std = {float(std)}: is no length of a power-function average; take one between 0 and 0.29"
        )


def test_a_recipe_without_snapshots(call: Call, home: Path) -> None:
    found = call("ema", home / "small.yaml", "--std", "0.1")
    assert found.code == 2
    for part in (str(home / "small.yaml"), "train.ema_stds", "set train.ema_stds, such as [0.05, 0.1], and run"):
        assert part in found.line


def test_before_training_and_after_a_change_of_the_recipe(call: Call, home: Path, recipe: Path) -> None:
    found = call("ema", recipe, "--std", "0.1")
    assert found.code == 2
    assert str(home / "out/averaged/training.json") in found.line
    assert "run `langevin train RECIPE` first" in found.line

    assert call("train", recipe).code == 0
    run = pointed(home)["run"]
    shutil.rmtree(home / "runs" / run / "snapshots")
    found = call("ema", recipe, "--std", "0.1")
    assert (found.code, f"runs/{run}/snapshots: holds no snapshots" in found.line) == (2, True)

    write_recipe(recipe, name="averaged", seed=5, **TRAIN)
    found = call("ema", recipe, "--std", "0.1")
    assert (found.code, "is of another training than this recipe's" in found.line) == (2, True)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"train__ema_stds": [0.1, 0.29]}, ["train.ema_stds.1 = 0.29", "less than 0.29"]),
        ({"train__ema_stds": [0]}, ["train.ema_stds.0 = 0", "greater than 0"]),
        ({"train__ema_stds": [0.1, 0.05, 0.1]}, ["train", "ema_stds names a length twice"]),
        ({"train__decay": "inverse_sqrt"}, ["train", "decay_images"]),
        ({"train__decay_images": 100}, ["train", "inverse_sqrt"]),
        ({"train__decay": "linear"}, ["train.decay = 'linear'", "'cosine', 'inverse_sqrt' or 'constant'"]),
    ],
)
def test_averages_and_rates_that_cannot_be(call: Call, empty: Path, change: dict[str, Any], named: list[str]) -> None:
    found = call("show", write_recipe(empty / "r.yaml", **change))
    assert found.code == 2
    assert [part for part in named if part not in found.line] == []
