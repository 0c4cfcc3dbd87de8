"""`langevin sweep`: one setting at several values, on the same noise, and nothing that is known is drawn again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from e2e.recipes import write_recipe

from langevin.cli import main
from langevin.stages import sweep as stage
from langevin.stages.evaluator import Evaluator

SMALL: dict[str, Any] = {
    "data": {"source": "shapes", "root": "out/data/shapes", "size": 16, "count": 240,
             "splits": {"train": 0.6, "validation": 0.1, "test": 0.3}},
    "model": {"method": "ddpm", "prediction": "velocity", "network": {"channels": 8, "multipliers": [1, 2], "blocks": 1}},
    "train": {"images": 64, "batch": 32, "lr": 2e-3, "workers": 0},
    "sample": {"steps": 3},
    "bound": {"calls": 2},
    "evaluate": {"images": 50, "curve_images": 50, "batch": 50},
}  # fmt: skip


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    return int(left.value.code or 0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a model of shapes, trained for two steps and evaluated, and a codec."""
    home = tmp_path_factory.mktemp("swept")
    recipe = write_recipe(home / "small.yaml", **SMALL)
    codec = {"method": "autoencoder", "network": {"channels": 8, "multipliers": [1, 2]}, "adversarial": 0.0}
    others = {"model": codec, "sample": {"sampler": "own"}, "bound": {"kind": "latent"},
              "evaluate": SMALL["evaluate"] | {"extractor": "out/small/extractor"}}  # fmt: skip
    write_recipe(home / "codec.yaml", **SMALL | others | {"name": "codec"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LANGEVIN_HOME", str(home))
        for command in ("prepare", "extractor", "train", "evaluate"):
            assert run(command, recipe) == 0
        assert run("train", home / "codec.yaml") == 0
    return home


@pytest.fixture
def swept(home: Path, trained: Path) -> Path:
    """A copy of that home. Its recipe."""
    shutil.copytree(trained, home, dirs_exist_ok=True)
    return home / "small.yaml"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many steps each set of images took that is drawn."""
    steps: list[int] = []
    images = Evaluator.images

    def counted(self: Evaluator, *given: Any) -> Any:
        steps.append(self.recipe.sample.steps)
        return images(self, *given)

    monkeypatch.setattr(Evaluator, "images", counted)
    return steps


def rows(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert run("sweep", *arguments, "--json") == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["rows"]
    return found


def test_a_value_is_drawn_once_and_the_recipes_own_row_is_the_evaluations(
    swept: Path, drawn: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    found = rows(capsys, swept, "steps", "2", "3", "2")
    assert drawn == [2, 3]
    assert [(row["value"], row["network_calls"]) for row in found] == [(2, 2), (3, 3), (2, 2)]
    assert found[0] == found[2]
    assert found[0]["fid"]["value"] != found[1]["fid"]["value"]
    evaluated = json.loads((swept.parent / "out/small/metrics.json").read_text())
    assert found[1]["spec"] == evaluated["spec"]
    for name in ("fid", "precision", "recall", "recognised"):
        for end in ("value", "low", "high"):
            assert found[1][name][end] == pytest.approx(evaluated[name][end], rel=1e-5), name

    assert rows(capsys, swept, "steps", "3", "4") == [found[1], rows(capsys, swept, "steps", "4")[0]]
    assert drawn == [2, 3, 4]
    table = (swept.parent / "out/small/sweeps/steps.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in table] == ["steps", "4"]  # the values that were asked for last
    rows(capsys, swept, "steps", "4", "--images", "60")  # another number of images is another figure
    assert drawn == [2, 3, 4, 4]


def test_all_values_meet_the_same_noise(swept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A setting that changes next to nothing changes the figures by as little, and one that changes much by much."""
    still, nearly, noisy = rows(capsys, swept, "eta", "0.0", "1e-6", "1.0")
    assert nearly["fid"]["value"] == pytest.approx(still["fid"]["value"], rel=1e-3)
    assert abs(noisy["fid"]["value"] - still["fid"]["value"]) > 0.01 * still["fid"]["value"]


def test_the_rows_of_another_checkpoint_are_drawn_anew(
    swept: Path, drawn: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    (before,) = rows(capsys, swept, "steps", "2")
    write_recipe(swept, **SMALL | {"seed": 1})
    assert run("train", swept) == 0
    (after,) = rows(capsys, swept, "steps", "2")
    assert drawn == [2, 2]
    assert after["fid"] != before["fid"]


def test_killed_between_two_values_and_run_again_it_leaves_the_same_files(
    swept: Path, drawn: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = swept.parent / "out/small/sweeps"
    rows(capsys, swept, "guidance", "1.0", "1.5", "2.0")
    whole = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    assert list(whole) == ["guidance.csv", "guidance.json"]
    shutil.rmtree(folder)
    drawn.clear()

    measured = stage._measured

    def killed(*given: Any) -> Any:
        if len(drawn) == 1:
            raise KeyboardInterrupt
        return measured(*given)

    with monkeypatch.context() as patch:
        patch.setattr(stage, "_measured", killed)
        assert run("sweep", swept, "guidance", "1.0", "1.5", "2.0") == 130
    assert [row["value"] for row in json.loads((folder / "guidance.json").read_text())["rows"]] == [1.0]
    assert not (folder / "guidance.csv").exists()
    rows(capsys, swept, "guidance", "1.0", "1.5", "2.0")
    assert len(drawn) == 3  # the first of them before the kill
    assert {path.name: path.read_bytes() for path in sorted(folder.iterdir())} == whole


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["stepz", "3"], ["stepz", "is no setting of the sampling", "choose from sampler, steps, grid"]),
        (["steps", "0"], ["sample.steps = '0'", "greater than or equal to 1"]),
        (["steps", "3", "many"], ["sample.steps = 'many'", "integer"]),
        (["steps", "3", "1001"], ["sample.steps = 1001", "chain of 1000", "lower it"]),
        (["eta", "2"], ["sample.eta = '2'", "less than or equal to 1"]),
        (["churn", "1.0"], ["sample.churn = '1.0'", "churn means nothing to ddim, only to heun"]),
        (["sampler", "autoregressive"], ["sample.sampler = 'autoregressive'", "which denoises", "take ddim"]),
        (["sampler", "own"], ["sample.sampler = 'own'", "steps means nothing to own"]),
        (["sampler", "magic"], ["sample.sampler = 'magic'", "'ddim'"]),
        (["guidance_interval", "[1, 2]"], ["sample.guidance_interval = [1.0, 2.0]", "off at 1.0"]),
        (["steps", "3", "--images", "10"], ["--images"]),
    ],
)
def test_mistakes_are_named_before_anything_is_drawn(
    swept: Path, drawn: list[int], capsys: pytest.CaptureFixture[str], arguments: list[str], named: list[str]
) -> None:
    capsys.readouterr()
    assert run("sweep", swept, *arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert [part for part in named if part not in lines[0]] == []
    assert str(swept) in lines[0] or "--images" in named
    assert drawn == []
    assert not (swept.parent / "out/small/sweeps").exists()


def test_a_codec_has_nothing_to_sweep(swept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run("sweep", swept.parent / "codec.yaml", "sampler", "own") == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.endswith("model.method = 'autoencoder': draws no samples; sweep a model of images or of latents")
