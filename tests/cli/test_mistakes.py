"""The caller's mistakes: exit code 2 and one line on stderr that names file, field, value and mend."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from e2e.recipes import langevin, write_recipe

from .conftest import Call


@pytest.mark.parametrize(
    ("change", "value", "named"),
    [
        ("train__lr_rate", 1e-3, ["train.lr_rate", "is not a field", "did you mean train.lr?"]),
        ("trains", {}, ["trains", "is not a field", "did you mean train?"]),
        ("sample__zzz", 1, ["sample.zzz", "the fields here are sampler, steps"]),
        ("train__images", "many", ["train.images = 'many'", "integer", "correct it"]),
        ("train__images", 0.5, ["train.images = 0.5", "integer", "correct it"]),
        ("seed", True, ["seed = True", "integer", "correct it"]),
        ("train__lr", 2.0, ["train.lr = 2.0", "less than 1", "correct it"]),
        ("train__batch", 0, ["train.batch = 0", "greater than or equal to 1", "correct it"]),
        ("model__schedule__name", "quadratic", ["model.schedule.name = 'quadratic'", "'linear', 'cosine'"]),
        ("model__method", None, ["model.method", "required", "add it"]),
        ("train__images", None, ["train.images", "required", "add it"]),
        ("sample__steps", 2000, ["sample.steps = 2000", "chain of 1000", "lower it"]),
        ("bound__calls", 1000, ["bound", "calls must be below the chain's 1000 steps"]),
        ("name", "a b", ["name = 'a b'", "pattern", "correct it"]),
        ("data__splits", {"train": 0.9, "test": 0.1}, ["data", "splits lacks validation"]),
        ("promote", {"better": ["fid"], "no_worse": ["nll", "fid"]}, ["promote", "fid is named twice"]),
        ("promote", {"no_wrose": ["nll"]}, ["promote.no_wrose", "did you mean promote.no_worse?"]),
    ],
)
def test_a_field_that_cannot_be_used(
    call: Call, tmp_path: Path, change: str, value: Any, named: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANGEVIN_HOME", str(tmp_path))
    recipe = write_recipe(tmp_path / "r.yaml", **{change: value})
    found = call("train", recipe)
    assert found.code == 2
    assert found.line.startswith(f"langevin: {recipe}: ")
    assert [part for part in named if part not in found.line] == []
    assert sorted(tmp_path.iterdir()) == [recipe]


@pytest.mark.parametrize(
    ("method", "sections", "named"),
    [
        ("rectified", {"model": {"prediction": "noise"}}, ["model.prediction = 'noise'", "no signal", "take flow"]),
        (
            "score_sde",
            {"model": {"times": "loss_aware"}},
            ["model.times = 'loss_aware'", "continuous", "improved_ddpm"],
        ),
        ("score_sde", {"model": {"schedule": {"name": "vp", "beta_mn": 1}}}, ["did you mean model.schedule.beta_min?"]),
        ("cld", {"sample": {"last": 1e-3}}, ["sample.sampler = 'ddim'", "needs a denoiser", "take sscs"]),
        ("cld", {"sample": {"sampler": "sscs", "last": 1e-3}, "bound": {}}, ["bound.kind = 'chain'", "take flow"]),
        ("vdm", {"sample": {"grid": "karras"}}, ["sample.grid = 'karras'", "fixed before training", "take uniform"]),
        ("edm", {"sample": {"grid": "karras"}}, ["bound.last = 0.02", "outweighs", "give 0.00048"]),
        ("ddpm", {"sample": {"churn": 1.0}}, ["sample", "churn means nothing to ddim, only to heun"]),
        ("magic", {}, ["model.method = 'magic'", "choose from ddpm, improved_ddpm, guided, clip_guided, ncsn"]),
    ],
)
def test_parts_that_do_not_fit_together(
    call: Call, empty: Path, method: str, sections: dict[str, Any], named: list[str]
) -> None:
    """Said when the recipe is read, before there is any data."""
    changes = {"model": {"method": method}, "sample": {}, "bound": {}}
    for section, fields in sections.items():
        changes[section] |= fields
    recipe = write_recipe(empty / "r.yaml", **changes)
    found = call("train", recipe)
    assert found.code == 2
    assert found.line.startswith(f"langevin: {recipe}: ")
    assert [part for part in named if part not in found.line] == []


def test_too_few_steps_for_the_schedule(call: Call, empty: Path) -> None:
    recipe = write_recipe(empty / "r.yaml", model__schedule={"name": "linear", "steps": 10})
    found = call("train", recipe)
    assert found.code == 2
    for part in (str(recipe), "model.schedule.steps = 10", "raise it"):
        assert part in found.line


def test_a_recipe_that_is_no_yaml(call: Call, empty: Path) -> None:
    (empty / "r.yaml").write_text("name: [unclosed\ntrain: {\n")
    found = call("show", empty / "r.yaml")
    assert found.code == 2
    assert str(empty / "r.yaml") in found.line
    assert "is no YAML" in found.line
    assert "line 2" in found.line


@pytest.mark.parametrize("content", ["", "- a\n- b\n", "text", "1"])
def test_a_recipe_that_is_no_table(call: Call, empty: Path, content: str) -> None:
    (empty / "r.yaml").write_text(content)
    found = call("show", empty / "r.yaml")
    assert found.code == 2
    assert str(empty / "r.yaml") in found.line


@pytest.mark.parametrize("command", ["show", "prepare", "extractor", "train", "evaluate", "promote", "generate"])
def test_a_recipe_that_is_missing(call: Call, empty: Path, command: str) -> None:
    found = call(command, empty / "none.yaml")
    assert found.code == 2
    assert (
        found.line == f"langevin: {empty}/none.yaml: there is no such recipe; `langevin recipes` lists those there are"
    )


def test_a_data_set_that_is_missing(call: Call, empty: Path) -> None:
    found = call("train", write_recipe(empty / "r.yaml"))
    assert found.code == 2
    assert str(empty / "out/data/digits") in found.line
    assert "langevin prepare" in found.line
    assert not (empty / "runs").exists()


def test_more_workers_than_cpus_starts_nothing(call: Call, home: Path) -> None:
    recipe = write_recipe(home / "r.yaml", train__seed=None, seed=5)
    before, started = set(psutil.Process().children(recursive=True)), time.monotonic()
    found = call("train", recipe, "--workers", "999")
    assert found.code == 2
    assert "train.workers = 999" in found.line
    assert f"take at most {len(os.sched_getaffinity(0))}" in found.line
    assert time.monotonic() - started < 5
    assert set(psutil.Process().children(recursive=True)) <= before


def test_a_truncated_shard_is_named_with_its_offset_before_any_worker(call: Call, home: Path) -> None:
    shard = next((home / "out/data/digits").rglob("*train*.tar"))
    size = shard.stat().st_size
    os.truncate(shard, size - 4096)
    before = set(psutil.Process().children(recursive=True))
    found = call("train", write_recipe(home / "r.yaml", seed=5), "--workers", "2")
    assert found.code == 2
    assert str(shard) in found.line
    assert f"offset {size - 4096}, {size - 4096} bytes of {size}" in found.line
    assert "prepare" in found.line
    assert set(psutil.Process().children(recursive=True)) <= before


@pytest.mark.parametrize("images", [64, 128])  # one to go on from, and one that looks complete
def test_a_checkpoint_of_another_architecture(call: Call, home: Path, images: int) -> None:
    ours = next((home / "runs").glob("small-*/checkpoints"))
    theirs = next((home / "runs").glob("other-*/checkpoints/000000000064"))
    shutil.rmtree(ours)
    place = ours / f"{images:012d}"
    shutil.copytree(theirs, place)
    _describe(place, lambda said: said | {"images": images})
    found = call("train", home / "small.yaml")
    assert found.code == 2
    assert str(place) in found.line
    assert "another architecture" in found.line
    assert "train under another name" in found.line


class Attack:
    """What unpickling would run."""

    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self) -> Any:
        return Path.touch, (self.touched,)


@pytest.mark.parametrize(("file", "command"), [("state.safetensors", "train"), ("ema.safetensors", "evaluate")])
@pytest.mark.parametrize("forged", [False, True])
def test_a_crafted_checkpoint_is_refused_and_not_run(
    call: Call, home: Path, file: str, command: str, forged: bool
) -> None:
    """forged: the manifest names the pickle's own checksum, so nothing but the format gives it away."""
    touched = home / "touched"
    content = pickle.dumps(Attack(touched))
    pickle.loads(content)
    touched.unlink()  # it is a working attack
    checkpoints = next((home / "runs").glob("small-*/checkpoints"))
    if command == "train":
        shutil.rmtree(checkpoints / "000000000128")
        place = checkpoints / "000000000064"
    else:
        place = checkpoints / "000000000128"
    (place / file).write_bytes(content)
    if forged:
        fingerprint = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        _describe(place, lambda said: said | {"files": said["files"] | {file: fingerprint}})
    found = call(command, home / "small.yaml")
    assert found.code == 2
    line = [line for line in found.lines if line.startswith("langevin: ")]
    assert len(line) == 1
    assert str(place / file) in line[0]
    assert ("code in a checkpoint is never run" if forged else "not the file of its manifest") in line[0]
    assert not touched.exists()


def test_a_model_that_is_not_registered(call: Call, home: Path) -> None:
    found = call("generate", home / "small.yaml", "--model", "models:/nothing@champion")
    assert found.code == 2
    assert "nothing" in found.line
    assert "is not a registered model" in found.line
    assert not (home / "out/small/generated").exists()


def test_an_address_that_is_none(call: Call, home: Path) -> None:
    found = call("generate", home / "small.yaml", "--model", "nothing")
    assert found.code == 2
    assert "model = 'nothing'" in found.line


@pytest.mark.parametrize(
    ("command", "first", "file"),
    [
        ("evaluate", "train", "training.json"),
        ("promote", "train", "training.json"),
        ("report", "evaluate", "evaluation.json"),
        ("summary", "evaluate", "evaluation.json"),
    ],
)
def test_a_stage_before_the_one_it_needs(call: Call, empty: Path, command: str, first: str, file: str) -> None:
    found = call(command, write_recipe(empty / "r.yaml"))
    assert found.code == 2
    assert str(empty / "out/small" / file) in found.line
    assert f"run `langevin {first} RECIPE` first" in found.line


def test_promote_before_evaluate(call: Call, home: Path) -> None:
    found = call("promote", home / "small.yaml")
    assert found.code == 2
    assert str(home / "out/small/evaluation.json") in found.line
    assert "run `langevin evaluate RECIPE` first" in found.line


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nonsense"], "nonsense"),
        (["train"], "RECIPE"),
        (["train", "r.yaml", "--nope"], "--nope"),
        (["train", "r.yaml", "--workers", "x"], "--workers"),
        (["train", "r.yaml", "--workers", "-1"], "--workers"),
        (["generate", "r.yaml", "--images", "0"], "--images"),
        (["ui", "--port", "99999"], "--port"),
        (["show", "r.yaml", "--plan", "--gpus", "0"], "--gpus"),
        (["show", "r.yaml", "--plan", "--utilisation", "much"], "--utilisation"),
    ],
)
def test_a_command_or_option_that_there_is_not(call: Call, empty: Path, arguments: list[str], named: str) -> None:
    found = call(*arguments)
    assert found.code == 2
    assert named in found.line
    assert "langevin --help" in found.line


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (
            ["--kind", "H101"],
            ["--kind = 'H101'", "is no GPU whose rates are known", "choose from A100-40, A100-80, H100"],
        ),
        (["--utilisation", "0"], ["--utilisation = 0.0", "take one in (0, 1]"]),
        (["--utilisation", "40"], ["--utilisation = 40.0", "take one in (0, 1]"]),
        (["--kind", "V100", "--precision", "bf16"], ["--precision = 'bf16'", "V100", "choose from fp16, fp32"]),
    ],
)
def test_a_machine_that_there_is_not(call: Call, empty: Path, options: list[str], named: list[str]) -> None:
    found = call("show", write_recipe(empty / "r.yaml"), "--plan", *options)
    assert found.code == 2
    assert [part for part in named if part not in found.line] == []


def test_a_plan_of_a_registered_model(call: Call, empty: Path) -> None:
    found = call("show", "models:/small@champion", "--plan")
    assert found.code == 2
    assert "there is no such recipe" in found.line


def test_a_traceback_only_with_debug(tmp_path: Path) -> None:
    quiet = langevin("show", tmp_path / "none.yaml", home=tmp_path)
    assert quiet.returncode == 2
    assert len(quiet.stderr.splitlines()) == 1
    loud = langevin("--debug", "show", tmp_path / "none.yaml", home=tmp_path)
    assert loud.returncode == 2
    assert "Traceback (most recent call last)" in loud.stderr
    assert loud.stderr.splitlines()[-1] == quiet.stderr.splitlines()[0]


def _describe(checkpoint: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    path = checkpoint / "checkpoint.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
