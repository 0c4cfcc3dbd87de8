"""The search file: strict, and everything that it may try is looked at before anything runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from e2e.recipes import ROOT, write_recipe

from langevin.config.load import load_recipe
from langevin.config.load_search import Loaded, load_search
from langevin.errors import ConfigError

SEARCH: dict[str, Any] = {
    "name": "s",
    "recipe": "r.yaml",
    "training": {"model.prediction": ["noise", "velocity"], "train.lr": [1e-3, 2e-3]},
    "sampling": {"steps": [2, 4], "guidance": [1.0, 1.5]},
    "scheduler": "halving",
    "rungs": [256, 512],
}


def write_search(folder: Path, **changes: Any) -> Path:
    """The small recipe and a search of it, with fields changed, or taken away by None."""
    recipe = changes.pop("of", {})
    write_recipe(folder / "r.yaml", **recipe)
    path = folder / "s.yaml"
    path.write_text(json.dumps({name: value for name, value in (SEARCH | changes).items() if value is not None}))
    return path


def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as found:
        load_search(path)
    assert found.value.file == path
    return str(found.value)


@pytest.mark.parametrize("path", sorted((ROOT / "pipelines/searches").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_searches_of_this_project_can_be_run(path: Path) -> None:
    loaded = load_search(path)
    assert loaded.search.rungs[-1] < loaded.base.train.images


def test_the_grid_and_its_recipes(tmp_path: Path) -> None:
    loaded = load_search(write_search(tmp_path))
    settings = loaded.search.settings
    assert settings is not None
    assert [tuple(one.values()) for one in settings] == [
        ("noise", 1e-3), ("noise", 2e-3), ("velocity", 1e-3), ("velocity", 2e-3)]  # fmt: skip
    recipe = loaded.recipe(settings[1])
    assert (recipe.model.prediction, recipe.train.lr) == ("noise", 2e-3)  # type: ignore[union-attr]
    unchanged = recipe.model_copy(update={"model": loaded.base.model, "train": loaded.base.train})
    assert unchanged == loaded.base
    assert [sample.steps for _, sample, _ in loaded.samples(recipe)] == [2, 2, 4, 4]


def test_settings_that_are_the_recipes_own_name_its_own_training(tmp_path: Path) -> None:
    loaded = load_search(write_search(tmp_path))
    own = loaded.recipe({"model.prediction": "velocity", "train.lr": 2e-3})
    assert own.run_name("d" * 32) == load_recipe(tmp_path / "r.yaml").run_name("d" * 32)
    assert loaded.recipe({"train.lr": 1e-3}).run_name("d" * 32) != own.run_name("d" * 32)


def test_the_best_as_a_file_is_the_recipe_with_the_settings(tmp_path: Path) -> None:
    loaded = load_search(write_search(tmp_path))
    written = tmp_path / "best.yaml"
    written.write_text(loaded.text({"model.prediction": "noise"}, {"steps": 2, "ema_std": 0.1}))
    found = load_recipe(written)
    assert found.model == loaded.recipe({"model.prediction": "noise"}).model
    assert (found.sample.steps, found.train) == (2, loaded.base.train)


def test_comments_of_the_recipe_stay(tmp_path: Path) -> None:
    loaded = load_search(ROOT / "pipelines/searches/ddpm-digits.yaml")
    text = loaded.text({"model.schedule.steps": 250}, {})
    assert "# every number of images counts all workers' together" in text
    (tmp_path / "best.yaml").write_text(text)
    assert load_recipe(tmp_path / "best.yaml").model.schedule.steps == 250  # type: ignore[union-attr]


@pytest.mark.parametrize("algorithm", ["random", "optuna"])
def test_ranges_are_for_algorithms_that_draw(tmp_path: Path, algorithm: str) -> None:
    knobs = {"train.lr": {"low": 1e-4, "high": 1e-2, "log": True}, "train.warmup": {"low": 0, "high": 500}}
    path = write_search(tmp_path, training=knobs, algorithm=algorithm, trials=5, scheduler="asha")
    settings = load_search(path).search.settings
    if algorithm == "optuna":
        assert settings is None
    else:
        assert settings is not None
        assert len(settings) == 5
        assert all(1e-4 <= one["train.lr"] <= 1e-2 and isinstance(one["train.warmup"], int) for one in settings)
    assert "sampling" in load_search(path).search.plain()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"trainings": {}}, ["trainings", "is not a field", "did you mean training?"]),
        ({"budget": {"hours": 1}}, ["budget.hours", "is not a field"]),
        ({"name": None}, ["name", "required", "add it"]),
        ({"recipe": "none.yaml"}, ["recipe = 'none.yaml'", "no such recipe"]),
        ({"training": {"train.lr_rate": [1e-3]}}, ["training.train.lr_rate", "did you mean train.lr?"]),
        ({"training": {"model.schedul.steps": [10]}}, ["training.model.schedul", "did you mean model.schedule?"]),
        ({"training": {"train.lr.peak": [10]}}, ["train.lr.peak", "is not a field of the recipe"]),
        ({"training": {"train.lr": [1e-3, 2.0]}}, ["training.train.lr = 2.0", "less than 1"]),
        ({"training": {"model.prediction": ["noise", "v"]}}, ["training.model.prediction = 'v'", "'velocity'"]),
        ({"training": {"model.schedule.steps": [1000, 3]}}, ["sample.steps = 4", "chain of 3"]),
        ({"training": {"train.lr": 1e-3}}, ["training.train.lr = 0.001", "give a list of values"]),
        ({"training": {"train.lr": []}}, ["training.train.lr", "at least 1 item"]),
        ({"training": {"train.lr": {"low": 1e-4, "high": 1e-2}}}, ["training.train.lr", "is a range", "random or optuna"]),
        ({"training": {"sample.steps": [2]}}, ["training.sample.steps", "move it to the section sampling"]),
        ({"training": {"train.images": [64]}}, ["training.train.images", "moves no trained weights"]),
        ({"training": {"evaluate.images": [64]}}, ["training.evaluate.images", "moves no trained weights"]),
        ({"sampling": {"stepz": [2]}}, ["sampling.stepz", "did you mean steps?"]),
        ({"sampling": {"steps": [2, 0]}}, ["sampling.steps = 0", "greater than or equal to 1"]),
        ({"sampling": {"steps": [2, 1001]}}, ["sample.steps = 1001", "chain of 1000"]),
        ({"sampling": {"churn": [1.0]}}, ["sampling", "churn means nothing to ddim"]),
        ({"sampling": {"ema_std": [0.1]}}, ["sampling.ema_std", "snapshots", "train.ema_stds"]),
        ({"sampling": {"ema_std": [0.5]}, "of": {"train__ema_stds": [0.05]}}, ["sampling.ema_std = 0.5", "0.29"]),
        ({"training": None, "sampling": None}, ["there is nothing to search"]),
        ({"algorithm": "random"}, ["trials (how many)"]),
        ({"trials": 3}, ["trials (how many)"]),
        ({"algorithm": "magic"}, ["algorithm = 'magic'", "'grid', 'random' or 'optuna'"]),
        ({"algorithm": "optuna", "trials": 3}, ["halving", "optuna thinks of them one by one"]),
        ({"algorithm": "optuna", "trials": 3, "scheduler": "population"}, ["population", "optuna thinks of them one by one"]),
        ({"scheduler": "population"}, ["training.model.prediction", "cannot change in the middle of a training", "train.lr"]),
        ({"scheduler": "population", "training": {"train.batch": [32, 64]}}, ["training.train.batch", "cannot change"]),
        ({"scheduler": "population", "training": {"model.network.channels": [8, 16]}}, ["network.channels", "cannot change"]),
        ({"scheduler": "population", "training": {"train.lr": [1e-3]}}, ["training", "population of one"]),
        ({"scheduler": "population", "training": {"train.lr": {"low": 1e-4, "high": 1e-2}}, "algorithm": "random", "trials": 1},
         ["trials = 1", "population of one", "take more"]),
        ({"scheduler": "population", "training": {"train.lr": {"low": 1e-4, "high": 1e-2},
          "train.decay": ["cosine", "inverse_sqrt"]}, "algorithm": "random", "trials": 2},
         ["decay inverse_sqrt and decay_images"]),
        ({"scheduler": "none"}, ["rungs", "for schedulers"]),
        ({"rungs": None}, ["rungs", "they need it"]),
        ({"rungs": [512, 256]}, ["rungs must rise"]),
        ({"rungs": [256, 1024]}, ["rungs = 1024", "1024 images of a whole training", "lower it"]),
        ({"objectives": ["network_calls"], "sampling": None}, ["the first, which decides what trains on, be fid or nll"]),
        ({"objectives": ["nll"]}, ["sampling moves the FID alone"]),
        ({"objectives": ["speed"]}, ["objectives", "'fid', 'nll' or 'network_calls'"]),
        ({"budget": {"minutes": 0.0}}, ["budget.minutes = 0.0", "greater than 0"]),
        ({"reduction": 1}, ["reduction = 1", "greater than or equal to 2"]),
        ({"concurrent": True}, ["concurrent = True", "integer"]),
    ],
)  # fmt: skip
def test_what_cannot_be_searched_is_named(tmp_path: Path, changes: dict[str, Any], named: list[str]) -> None:
    line = refused(write_search(tmp_path, **changes))
    assert [part for part in named if part not in line] == []
    assert "\n" not in line


def test_both_ends_of_a_range_are_looked_at(tmp_path: Path) -> None:
    knobs = {"train.lr": {"low": 1e-4, "high": 1.5, "log": True}}
    line = refused(write_search(tmp_path, training=knobs, algorithm="random", trials=3))
    assert "training.train.lr = 1.5" in line
    backwards = {"train.lr": {"low": 1e-2, "high": 1e-4}}
    assert "low must be below high" in refused(write_search(tmp_path, training=backwards, algorithm="random", trials=3))


def test_a_combination_that_the_parts_refuse_is_found_though_each_value_alone_is_fine(tmp_path: Path) -> None:
    knobs = {"train.decay": ["cosine", "inverse_sqrt"], "train.decay_images": [100]}
    line = refused(write_search(tmp_path, training=knobs))
    assert "decay inverse_sqrt and decay_images" in line


@pytest.mark.parametrize("content", ["", "- a\n", "name: [unclosed\n", "name: 2020-01-01\n"])
def test_a_file_that_is_no_search(tmp_path: Path, content: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(content)
    assert str(path) in refused(path)


def test_a_search_is_frozen(tmp_path: Path) -> None:
    loaded: Loaded = load_search(write_search(tmp_path))
    with pytest.raises(ValueError, match="frozen"):
        loaded.search.seed = 3  # type: ignore[misc]
