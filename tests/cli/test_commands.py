"""What a program or a person asks the command line first: help, lists, JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from e2e.recipes import ROOT, write_recipe

from langevin import __version__
from langevin.cli import app
from langevin.config.load import load_recipe

from .conftest import Call

COMMANDS = sorted(command.callback.__name__ for command in app.registered_commands if command.callback)


def test_the_commands_are_there() -> None:
    assert {"recipes", "show", "prepare", "train", "evaluate", "promote", "generate", "report", "doctor"} <= set(
        COMMANDS
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(call: Call, command: str) -> None:
    found = call(command, "--help")
    assert (found.code, found.lines) == (0, [])
    assert command in found.out


def test_help_and_version(call: Call) -> None:
    found = call("--help")
    assert found.code == 0
    assert [command for command in COMMANDS if command not in found.out] == []
    assert call("--version").out.strip() == __version__


def test_without_a_command_it_is_help_alone(call: Call) -> None:
    found = call()
    assert found.code == 2
    assert not any(line.startswith("langevin:") for line in found.lines)
    assert "Usage" in found.out + "\n".join(found.lines)


def test_recipes_as_json(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = call("recipes", "--json")
    assert found.code == 0
    rows = {row["recipe"]: row for row in json.loads(found.out)}
    assert rows["pipelines/recipes/ddpm-digits.yaml"]["method"] == "ddpm"
    assert sorted(rows) == [str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("pipelines/recipes/*.yaml"))]


def test_a_shown_recipe_has_its_defaults_and_is_a_recipe(call: Call, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "r.yaml")
    found = call("show", recipe, "--json")
    assert found.code == 0
    sample = json.loads(found.out)["sample"]
    assert {"sampler": "ddim", "steps": 4, "eta": 0.0, "guidance": 1.0}.items() <= sample.items()
    assert "churn" not in sample  # another sampler's
    (tmp_path / "again.yaml").write_text(found.out)
    assert load_recipe(tmp_path / "again.yaml") == load_recipe(recipe)
    assert "  sampler: ddim" in call("show", recipe).out


def test_a_plan_needs_neither_data_nor_parts(call: Call, empty: Path) -> None:
    recipe = write_recipe(empty / "r.yaml")
    found = call("show", recipe, "--plan", "--gpus", "8", "--kind", "A100-80", "--utilisation", "0.25", "--json")
    assert found.code == 0
    said = json.loads(found.out)
    assert said["machine"] == {"gpus": 8, "kind": "A100-80", "utilisation": 0.25, "precision": "fp32"}
    assert (said["sampling"]["calls"], said["training"]["images"], said["sampling"]["images"]) == (4, 1024, 64)
    assert call("show", recipe, "--plan").out.startswith("small (ddpm), [1, 8, 8]\n  machine    1 x H100 at 40%")
    assert sorted(empty.iterdir()) == [recipe]


def test_the_doctor_finds_this_installation_well(call: Call, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = call("doctor", "--json")
    checks = {check["check"]: check for check in json.loads(found.out)}
    assert found.code == 0, checks
    assert "mlflow" in checks["libraries"]["found"]
    assert checks["undelivered points"]["found"] == "none"
    assert "every shard is what its manifest says" in checks["recipe ddpm-digits"]["found"]


def test_the_doctor_sees_a_damaged_shard(call: Call, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    shard = next((home / "out/data/digits").rglob("*test*.tar"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    found = call("doctor")
    assert found.code == 1
    failed = [line for line in found.out.splitlines() if line.startswith("FAIL")]
    recipes = [load_recipe(path) for path in (ROOT / "pipelines" / "recipes").glob("*.yaml")]
    assert len(failed) == sum(recipe.data.source == "digits" for recipe in recipes)  # which they share
    assert all(shard.name in line for line in failed)


def test_prepare_says_what_it_made(call: Call, empty: Path) -> None:
    found = call("prepare", write_recipe(empty / "r.yaml"), "--json")
    assert found.code == 0
    made = json.loads(found.out)
    assert sum(made["samples"].values()) == 1797
    assert (empty / "out/data/digits/manifest.json").exists()
