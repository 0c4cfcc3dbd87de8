"""Recipes: every one there is loads and comes back, and every mistake is one line with its mend."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from langevin.config.load import load_recipe
from langevin.config.recipe import Recipe
from langevin.errors import ConfigError

from .conftest import RECIPES

ALL = sorted(RECIPES.glob("*.yaml"))
Written = Callable[..., Path]


def mistake(path: Path) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_recipe(path)
    line = str(caught.value)
    assert line.startswith(str(path))
    assert "\n" not in line
    return caught.value


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_every_recipe_comes_back_as_it_was(path: Path, tmp_path: Path) -> None:
    """Through JSON, which travels to workers, and through YAML, which people write."""
    recipe = load_recipe(path)
    assert Recipe.model_validate_json(json.dumps(recipe.plain())) == recipe
    YAML(typ="safe").dump(recipe.plain(), tmp_path / "again.yaml")
    assert load_recipe(tmp_path / "again.yaml") == recipe


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_a_recipe_has_the_name_of_its_file(path: Path) -> None:
    assert load_recipe(path).name == path.stem


def test_there_are_recipes() -> None:
    assert "ddpm-digits" in {path.stem for path in ALL}


@pytest.mark.parametrize(
    ("field", "near"),
    [
        ("train.lr_rate", "train.lr"),
        ("train.batch_size", "train.batch"),
        ("train.checkpoint_evry", "train.checkpoint_every"),
        ("model.schedule.step", "model.schedule.steps"),
        ("model.network.chanels", "model.network.channels"),
        ("sample.guidence", "sample.guidance"),
        ("sampel", "sample"),
    ],
)
def test_an_unknown_field_names_the_nearest(written: Written, field: str, near: str) -> None:
    error = mistake(written({field: 1}))
    assert error.field == field
    assert error.mend == f"did you mean {near}?"


def test_a_field_like_no_other_lists_those_there_are(written: Written) -> None:
    error = mistake(written({"bound.zzz": 1}))
    assert error.field == "bound.zzz"
    assert error.mend == "the fields here are kind, steps, calls, last, probes, draws, tolerance"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("train.batch", "64"),
        ("train.batch", 64.5),
        ("train.batch", True),
        ("train.lr", "fast"),
        ("train.betas", [0.9, "x"]),
        ("train.images", None),
        ("name", 7),
        ("seed", 1.5),
        ("data.source", "tapes"),
        ("model.method", "magic"),
        ("model.schedule.name", "quadratic"),
        ("model.prediction", "epsilon"),
        ("sample.sampler", "euler"),
        ("model.network.multipliers", 2),
    ],
)
def test_a_wrong_type_or_name_is_shown(written: Written, field: str, value: Any) -> None:
    error = mistake(written({field: value}))
    assert error.field is not None
    assert error.field.startswith(field)
    assert error.mend is not None
    if value is not None:
        assert repr(error.value) in str(error)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("train.batch", 0),
        ("train.images", -1),
        ("train.lr", 0),
        ("train.lr", 1.0),
        ("train.ema_decay", 1.0),
        ("train.warmup", -1),
        ("train.workers", -1),
        ("model.condition_dropout", 1.5),
        ("model.schedule.steps", 0),
        ("sample.eta", -0.1),
        ("sample.eta", 1.1),
        ("bound.last", 1.0),
        ("bound.steps", 1),
        ("evaluate.images", 15),
        ("seed", -1),
        ("name", "../elsewhere"),
        ("name", ""),
        ("data.splits.train", 0),
        ("data.shard_samples", 0),
    ],
)
def test_a_value_out_of_range_is_shown(written: Written, field: str, value: Any) -> None:
    error = mistake(written({field: value}))
    assert (error.field, error.value) == (field, value)
    assert f"{field} = {value!r}" in str(error)
    assert error.mend is not None


@pytest.mark.parametrize("field", ["name", "data", "model", "train", "train.images", "data.root", "model.method"])
def test_a_missing_field_is_named(written: Written, field: str) -> None:
    error = mistake(written({}, remove=(field,)))
    assert error.field == field
    assert error.mend == "add it"


@pytest.mark.parametrize("steps", [10, 20])
def test_a_chain_too_short_for_its_schedule(written: Written, steps: int) -> None:
    path = written({"model.schedule.name": "linear", "model.schedule.steps": steps, "sample.steps": 5})
    error = mistake(path)
    assert (error.field, error.value) == ("model.schedule.steps", steps)
    assert f"T = {steps} steps are too few" in str(error)
    assert "cosine" in str(error.mend)
    longer = written({"model.schedule.name": "linear", "model.schedule.steps": 25, "sample.steps": 5})
    assert load_recipe(longer).model.schedule.steps == 25


def test_more_sampling_steps_than_the_chain_has(written: Written) -> None:
    error = mistake(written({"sample.steps": 1001}))
    assert (error.field, error.value) == ("sample.steps", 1001)
    assert "chain of 1000" in str(error)
    assert load_recipe(written({"sample.steps": 1000})).sample.steps == 1000


def test_more_parts_than_images_in_a_share(written: Written) -> None:
    error = mistake(written({"train.batch": 8, "train.workers": 2, "train.accumulate": 5}))
    assert (error.field, error.value) == ("train.accumulate", 5)
    assert "4" in error.problem


def test_more_workers_than_images_in_a_batch(written: Written) -> None:
    error = mistake(written({"train.batch": 3, "train.workers": 4}))
    assert (error.field, error.value) == ("train.batch", 3)


def test_fields_that_belong_together(written: Written) -> None:
    assert "images (the folder) and size" in str(mistake(written({"data.source": "folder"})))
    assert "lacks test" in str(mistake(written({}, remove=("data.splits.test",))))
    assert "below the chain's 1000 steps" in str(mistake(written({"bound.calls": 1000})))


@pytest.mark.parametrize(
    "text",
    ["", "- a\n- list", "name", "{", "name: [", "a: b: c", "name: x\nname: y", "name: !!python/object/apply:os.getcwd []",
     "\tname: x", "name: \x00"],
)  # fmt: skip
def test_what_is_no_recipe_is_said_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    mistake(path)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(b"name: \xff\xfe\x00")
    mistake(path)


def test_a_missing_file_says_where_to_look(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.yaml", tmp_path):
        assert "langevin recipes" in str(mistake(path))


def test_numbers_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    """2e-3 is a number, and yes is a word: YAML 1.1 has both the other way."""
    text = (RECIPES / "ddpm-digits.yaml").read_text()
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    assert load_recipe(path).train.lr == 2e-3
    path.write_text(text.replace("lr: 2e-3", "lr: yes"))
    assert mistake(path).value == "yes"


def test_a_recipe_does_not_change() -> None:
    recipe = load_recipe(RECIPES / "ddpm-digits.yaml")
    with pytest.raises(ValidationError, match="frozen"):
        recipe.seed = 5  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        recipe.train.lr = 0.5  # type: ignore[misc]


def test_a_training_is_known_by_what_decides_its_weights(written: Written) -> None:
    base = load_recipe(written({}))
    same = {
        "train.workers": 1, "train.log_every": 77, "train.validate_every": 5, "train.keep": 2, "sample.steps": 7,
        "train.checkpoint_every": 9, "bound.calls": 3, "evaluate.seed": 9, "generate.images": 3, "data.root": "elsewhere",
    }  # fmt: skip
    for field, value in same.items():
        assert load_recipe(written({field: value})).training_hash("d") == base.training_hash("d"), field
    other = {
        "seed": 1, "train.batch": 32, "train.lr": 1e-3, "train.images": 5, "train.ema_decay": 0.5, "train.warmup": 1,
        "model.prediction": "noise", "model.network.channels": 8, "model.schedule.steps": 500,
        "model.condition_dropout": 0.2,
    }  # fmt: skip
    for field, value in other.items():
        assert load_recipe(written({field: value})).training_hash("d") != base.training_hash("d"), field
    start = {"checkpoint": "runs/r/checkpoints/000000000064", "sha256": "ab" * 32}
    begun = load_recipe(written({"train.warm_start": start}))
    moved = load_recipe(written({"train.warm_start": start | {"checkpoint": "elsewhere"}}))
    other_state = load_recipe(written({"train.warm_start": start | {"sha256": "cd" * 32}}))
    assert begun.training_hash("d") == moved.training_hash("d")
    assert len({one.training_hash("d") for one in (base, begun, other_state)}) == 3
    assert base.training_hash("other data") != base.training_hash("d")
    assert base.run_name("d") == f"ddpm-digits-{base.training_hash('d')[:8]}"
    assert len(base.training_hash("d")) == 12


def test_the_batch_job_serves_its_own_champion_unless_it_says_otherwise(written: Written) -> None:
    assert load_recipe(written({}, remove=("generate",))).serving == "models:/ddpm-digits@champion"
    assert load_recipe(written({"generate.model": "models:/other/3"})).serving == "models:/other/3"
