"""Real models one after the other: measured side by side, promoted, rolled back, and known by all that came of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from e2e.recipes import write_recipe

from langevin.data.manifest import Manifest
from langevin.evaluation.comparison import compare
from langevin.evaluation.suite import Evaluation
from langevin.generation.ledger import MANIFEST

from .conftest import Call

RULE = {"better": ["fid", "nll"], "no_worse": ["precision"]}


@pytest.fixture
def duel(call: Call, home: Path) -> dict[str, Any]:
    """A champion of 128 images with a batch of its own, and a challenger of 1,024; what evaluation.json says of the two."""
    recipe = home / "small.yaml"
    for command in (("evaluate",), ("promote",), ("generate",)):
        assert call(*command, recipe).code == 0
    write_recipe(recipe, promote=RULE, train__lr=4e-3)
    assert call("train", recipe).code == 0
    assert call("evaluate", recipe).code == 0
    found: dict[str, Any] = json.loads((home / "out/small/evaluation.json").read_text())
    return found


def test_a_better_model_wins_on_common_noise_and_is_rolled_back(call: Call, home: Path, duel: dict[str, Any]) -> None:
    recipe, beside = home / "small.yaml", duel["champion"]
    assert beside["model"] == "models:/small/1"
    theirs, ours = Evaluation.from_json(beside["evaluation"]), Evaluation.from_json(duel["evaluation"])
    strangers, paired = compare(theirs, ours), beside["differences"]
    assert {"fid", "kid", "precision", "recall", "recognised", "nll"} <= paired.keys()
    for name, found in paired.items():
        assert found["value"] == pytest.approx(strangers[name].change, abs=1e-4), name
    for name in ("fid", "nll", "precision"):
        assert (paired[name]["high"] - paired[name]["low"]) / 2 < strangers[name].margin, name
    assert all("spread" not in figure for figure in json.loads(duel["evaluation"])["figures"].values())

    won = json.loads(call("promote", recipe, "--json").out)
    assert (won["model"], won["alias"]) == ("models:/small/2", "champion")
    assert won["reason"].startswith("better than version 1: fid ")
    assert won["reason"].count("(paired)") == 3
    assert json.loads(call("promote", recipe, "--json").out) == won

    back = call("promote", recipe, "--rollback")
    assert back.out == "promote: models:/small/1 is @champion (rolled back from version 2)\n"
    assert "models:/small/2 is @challenger (was rolled back" in call("promote", recipe).out
    none = call("promote", recipe, "--rollback")
    assert (none.code, none.out) == (2, "")
    line = "langevin: model = 'models:/small/1': is the first champion: none held the alias before it"
    assert none.lines[-1] == line

    _walk(call, home)


def _walk(call: Call, home: Path) -> None:
    """From the registered version to everything it comes from, and to what came of it."""
    found = json.loads(call("show", "models:/small@champion", "--json").out)
    trained = json.loads((home / "out/small/training.json").read_text())
    manifest = Manifest.load(home / "out/data/digits")
    assert (found["model"], found["aliases"]) == ("models:/small/1", ["champion"])
    assert found["recipe"]["name"] == "small"
    assert found["recipe"]["training_hash"] != trained["recipe_hash"]  # of the first of the two trainings
    assert found["recipe"]["file"] == str(home / "small.yaml")
    assert len(found["code"]["commit"]) == 40 or found["code"]["commit"] == "unknown"
    assert found["data"]["digest"] == manifest.digest
    shards = {name: [shard["sha256"] for shard in split["shards"]] for name, split in found["data"]["splits"].items()}
    assert shards == {name: [one.sha256 for one in split.shards] for name, split in manifest.splits.items()}
    assert found["weights"]["there"]
    assert (found["made_of"], found["part_of"]) == ([], [])
    (job,) = found["generated"]
    written = json.loads((home / "out/small/generated" / MANIFEST).read_text())
    assert written["request"]["model"] == found["model"]
    assert (job["folder"], job["samples"], job["digest"]) == (str(home / "out/small/generated"), 64, written["digest"])
    assert job["shards"] == written["shards"]

    text = call("show", "models:/small/1").out
    for part in ("models:/small/1 @champion", found["recipe"]["sha256"], manifest.digest, found["weights"]["sha256"],
                 shards["train"][0], f"64 images of seed 2 in {job['folder']}", job["shards"][0]["sha256"]):  # fmt: skip
        assert part in text
    other = call("show", "models:/small/2").out
    assert "rolled back to version 1" in other
    assert "nothing yet" in other

    # what is gone or was changed is said to be
    shutil.rmtree(home / "out/small/generated")
    shutil.rmtree(home / "out/data/digits")
    shutil.rmtree(found["checkpoint"])
    gone = call("show", "models:/small/1")
    assert gone.code == 0
    for part in ("no longer there", "missing data set", "is no checkpoint", manifest.digest):
        assert part in gone.out
