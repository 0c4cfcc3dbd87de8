"""Models that are made of others, through the real stages: a codec, models of its latents, a cascade of two parts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx
import numpy as np
import pytest
import torch
from dvc.repo import Repo
from e2e.recipes import ROOT, write_recipe

from langevin.cli import main
from langevin.config.load import load_recipe, restore
from langevin.data.manifest import Manifest
from langevin.data.reader import read_split
from langevin.generation.writer import read_images
from langevin.methods.cascade import of_stage
from langevin.randomness import Keys, Noise
from langevin.stages.encode import SEED
from langevin.stages.show import model, model_lines
from langevin.tracking.registry import Registry
from langevin.tracking.store import tracking_uri
from langevin.training import checkpoint as checkpoints
from langevin.training.checkpoint import Checkpoint

SHAPES: dict[str, Any] = {"source": "shapes", "root": "out/data/shapes", "size": 16, "count": 400}
NETWORK = {"channels": 8, "multipliers": [1, 2], "blocks": 1}
LATENTS = {"codec": "codec", "root": "out/data/latents"}
CODEC = {"method": "autoencoder", "network": NETWORK | {"patch": 2, "latent_channels": 3}, "adversarial": 0.1}
DDPM = {"method": "ddpm", "prediction": "velocity", "network": NETWORK}
READS = {"condition": "caption", "text": {"width": 8, "layers": 1, "heads": 2}}
EVALUATE = {"extractor": "out/codec/extractor", "images": 60, "curve_images": 50, "batch": 60}
OF_LATENTS: dict[str, Any] = {
    "latents": LATENTS, "sample": {"steps": 2, "threshold": "none"}, "bound": {"kind": "continuous", "calls": 2},
}  # fmt: skip
OF_IMAGES: dict[str, Any] = {"sample": {"steps": 2}, "bound": {"calls": 2}}
RECIPES: dict[str, dict[str, Any]] = {
    "codec": {"model": CODEC, "sample": {"sampler": "own"}, "bound": {"kind": "latent"},
              "evaluate": EVALUATE | {"extractor": "cnn"}},
    "latent": {"model": DDPM, **OF_LATENTS},
    "text": {"model": DDPM | READS, **OF_LATENTS},
    "base": {"model": DDPM, **OF_IMAGES,
             "data": SHAPES | {"root": "out/data/shapes-8", "size": 8, "reduced_from": 16}},
    "upsampler": {"model": DDPM, "upsampling": {"lower": 8}, **OF_IMAGES},
    "cascade": {"model": {"method": "cascade", "base": "base", "stages": ["upsampler"]},
                "sample": {"sampler": "stages", "levels": [0.2]}, "bound": {}},
}  # fmt: skip
TRAIN = {"images": 256, "batch": 32, "lr": 2e-3, "workers": 0, "checkpoint_every": 10_000}


def recipe_of(home: Path, name: str, **changes: Any) -> Path:
    plain = {"name": name, "data": SHAPES, "train": TRAIN, "evaluate": EVALUATE} | RECIPES[name] | changes
    return write_recipe(home / f"{name}.yaml", **plain, generate={"images": 6, "unit": 4, "workers": 0})


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    return int(left.value.code or 0)


def ran(home: Path, *commands: tuple[str, str]) -> None:
    for command, name in commands:
        assert run(command, home / f"{name}.yaml") == 0, (command, name)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home where each of them is trained, and what can be measured is."""
    home = tmp_path_factory.mktemp("composites")
    for name in RECIPES:
        recipe_of(home, name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LANGEVIN_HOME", str(home))
        ran(
            home,
            ("prepare", "codec"),
            ("prepare", "base"),
            ("extractor", "codec"),
            ("train", "codec"),
            ("evaluate", "codec"),
        )
        ran(
            home,
            ("encode", "latent"),
            ("train", "latent"),
            ("evaluate", "latent"),
            ("train", "text"),
            ("evaluate", "text"),
        )
        ran(home, *(("train", name) for name in ("base", "upsampler", "cascade")))
        ran(home, ("evaluate", "cascade"), ("promote", "cascade"), ("generate", "cascade"))
    return home


@pytest.fixture
def there(home: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That home, to be read."""
    monkeypatch.setenv("LANGEVIN_HOME", str(made))
    return made


@pytest.fixture
def copied(home: Path, made: Path) -> Path:
    """A copy of it, to be changed."""
    shutil.copytree(made, home, dirs_exist_ok=True)
    return home


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def line(*arguments: str | Path) -> str:
        capsys.readouterr()
        assert run(*arguments) == 2
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("langevin: ")]
        assert len(said) == 1
        return said[0]

    return line


def checkpoint(home: Path, name: str) -> Checkpoint:
    said = json.loads((home / "out" / name / "training.json").read_text())
    return checkpoints.read(home / said["checkpoint"])


def figures(home: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((home / "out" / name / "metrics.json").read_text())
    return found


def run_name(home: Path, name: str) -> str:
    recipe = load_recipe(home / f"{name}.yaml")
    return recipe.run_name(Manifest.load(home / recipe.training_root).digest)


def test_latents_are_the_codecs_own_at_deviation_1(there: Path) -> None:
    pixels, written = Manifest.load(there / "out/data/shapes"), Manifest.load(there / "out/data/latents")
    trained = checkpoint(there, "codec")
    assert written.latents is not None
    assert (written.latents.codec_sha256, written.shape) == (trained.sha256, (3, 4, 4))
    assert {name: split.samples for name, split in written.splits.items()} == {
        name: split.samples for name, split in pixels.splits.items()
    }
    latents, images = read_split(there / "out/data/latents", "train"), read_split(there / "out/data/shapes", "train")
    assert float(latents.images.double().std()) == pytest.approx(1, abs=1e-3)
    assert latents.keys == images.keys
    codec = restore(trained).codec
    with torch.no_grad():
        expected = (
            codec.encode(images.images, Noise(Keys(SEED, images.ordinals)).within("codec")) / written.latents.scale
        )
    torch.testing.assert_close(latents.images, expected, rtol=2e-3, atol=2e-3)  # float16


def test_a_model_of_latents_holds_its_codec_and_decodes_what_it_draws(there: Path) -> None:
    written = Manifest.load(there / "out/data/latents").latents
    assert written is not None
    own, codecs = (checkpoints.average(checkpoint(there, name)) for name in ("latent", "codec"))
    for name, value in codecs.items():
        if name.startswith("codec.") and name != "codec.scale":
            assert torch.equal(own[name], value), name
    assert float(own["codec.scale"]) == pytest.approx(1 / written.scale)
    model: Any = restore(checkpoint(there, "latent"))
    stored, images = read_split(there / "out/data/latents", "test"), read_split(there / "out/data/shapes", "test")
    codec: Any = restore(checkpoint(there, "codec"))
    with torch.no_grad():
        z = codec.codec.encode(images.images, Noise(Keys(SEED, images.ordinals)).within("codec"))
        torch.testing.assert_close(model.codec.decode(stored.images), codec.codec.decode(z), rtol=0.02, atol=0.02)
        *_, last = model.inner.walk(Keys.range(1, 0, 3), torch.tensor([0, 5, -1]))
        drawn = model.codec.decode(last).clamp(-1, 1)
    torch.testing.assert_close(model.sample(Keys.range(1, 0, 3), torch.tensor([0, 5, -1])), drawn, rtol=1e-4, atol=1e-4)
    assert {"fid", "nll"} <= figures(there, "latent").keys()


def test_a_codec_is_measured_by_what_comes_back(there: Path) -> None:
    """It draws no samples, so it has no FID of any."""
    found = figures(there, "codec")
    assert {"rfid", "psnr", "nll"} <= found.keys()
    assert "fid" not in found
    assert found["psnr"]["value"] > 5


def test_a_model_that_reads_is_measured_by_captions_and_by_those_held_out(there: Path) -> None:
    found = figures(there, "text")
    parts = ("shape", "colour", "size", "both", "count", "background")
    assert {f"{kind}_{part}" for kind in ("caption", "heldout") for part in parts} <= found.keys()
    assert (found["caption_count"]["n"], found["heldout_count"]["n"]) == (60, 30)  # half as many of what is new
    for kind in ("caption", "heldout"):
        both, shape = found[f"{kind}_both"], found[f"{kind}_shape"]
        assert 0 <= both["low"] <= both["value"] <= both["high"] <= 1
        assert both["value"] <= shape["value"]
        assert both["n"] == shape["n"] >= found[f"{kind}_count"]["n"]  # of objects, of which an image has one or more
    assert not any(name.startswith(("caption_", "heldout_")) for name in figures(there, "latent"))


def test_a_cascade_is_its_parts(there: Path) -> None:
    whole: Any = restore(checkpoint(there, "cascade"))
    base, stage = restore(checkpoint(there, "base")), restore(checkpoint(there, "upsampler"))
    assert checkpoint(there, "cascade").images == 2 * 256
    keys, labels = Keys.range(1, 0, 3), torch.tensor([0, 7, 3])
    small = base.sample(keys, labels)
    expected = stage.sample_from(of_stage(keys, 0), small, labels, 0.2)
    assert torch.equal(whole.sample(keys, labels), expected)
    assert small.shape == (3, 3, 8, 8)
    found = figures(there, "cascade")
    assert "fid" in found
    assert "nll" not in found  # parts that model all of an image's pixels bound no likelihood of the whole


def test_a_cascade_is_promoted_and_generates_by_its_name(there: Path) -> None:
    promoted = json.loads((there / "out/cascade/promotion.json").read_text())
    assert (promoted["model"], promoted["alias"]) == ("models:/cascade/1", "champion")
    version = Registry(tracking_uri(there)).resolve("models:/cascade@champion")
    assert version.tags["langevin.checkpoint_sha256"] == checkpoint(there, "cascade").sha256
    folders = [path.parent for path in (there / "out/cascade/generated").rglob("manifest.json")]
    assert len(folders) == 1
    request = json.loads((folders[0] / "manifest.json").read_text())["request"]
    assert request["model"] == "models:/cascade/1"
    found = read_images(folders[0])
    assert found.labels is not None
    images = restore(checkpoint(there, "cascade")).sample(Keys.range(2, 0, 6), torch.tensor(found.labels))
    assert np.abs(found.images - (images.numpy() + 1) * 127.5).max() < 0.51


def test_a_cascade_of_other_parts_leaves_the_one_before_as_it_was(copied: Path) -> None:
    before = checkpoint(copied, "cascade")
    ran(copied, ("train", "cascade"))
    assert checkpoint(copied, "cascade").folder == before.folder  # of the same parts it is the same
    recipe_of(copied, "upsampler", seed=1)
    ran(copied, ("train", "upsampler"), ("train", "cascade"))
    after = checkpoint(copied, "cascade")
    assert after.sha256 != before.sha256
    # a registered version points there
    assert checkpoints.read(before.folder).sha256 == before.sha256


def test_what_a_model_is_made_of_is_known_from_it_and_back(copied: Path) -> None:
    cascade = model("models:/cascade/1")
    assert [(part["recipe"], part["sha256"], part["models"]) for part in cascade["made_of"]] == [
        (name, checkpoint(copied, name).sha256, []) for name in ("base", "upsampler")
    ]
    # the copy moved: what lies at the old place is still what was written
    assert [(job["samples"], job["there"]) for job in cascade["generated"]] == [(6, True)]
    ran(copied, ("promote", "codec"), ("promote", "latent"))
    latent, codec = model("models:/latent/1"), model("models:/codec@champion")
    (part,) = latent["made_of"]
    assert (part["recipe"], part["sha256"], part["models"]) == (
        "codec",
        codec["weights"]["sha256"],
        ["models:/codec/1"],
    )
    assert part["training_hash"] == codec["recipe"]["training_hash"]
    assert (codec["made_of"], codec["part_of"], codec["generated"]) == ([], ["models:/latent/1"], [])
    written = Manifest.load(copied / "out/data/latents")
    assert (latent["latents"]["digest"], latent["latents"]["of"]) == (written.digest, latent["data"]["digest"])
    assert latent["latents"]["codec_sha256"] == part["sha256"]
    assert latent["latents"]["splits"]["test"]["samples"] == written.splits["test"].samples
    text = model_lines(latent)
    for said in (f"made of     codec (models:/codec/1), sha256 {part['sha256']}", f"latents     {written.digest} of "):
        assert said in text
    assert "part of     models:/latent/1" in model_lines(codec)


def test_retraining_the_codec_makes_its_latents_stale_and_nothing_else(
    copied: Path, refused: Callable[..., str]
) -> None:
    names = ("latent", "text", "base", "upsampler")
    before, models = {name: run_name(copied, name) for name in names}, figures(copied, "latent")
    images = Manifest.load(copied / "out/data/shapes").digest
    latent = checkpoint(copied, "latent").sha256
    recipe_of(copied, "codec", seed=1, train=TRAIN | {"images": 32})
    ran(copied, ("train", "codec"))
    now = checkpoint(copied, "codec").sha256
    for name in ("latent", "text"):
        line = refused("train", copied / f"{name}.yaml")
        assert f"sha256 = '{now[:12]}': is not the codec that wrote the latents at out/data/latents" in line
        assert line.endswith("; run `langevin encode RECIPE` again")
    assert {name: run_name(copied, name) for name in names} == before
    assert Manifest.load(copied / "out/data/shapes").digest == images
    # what is trained has its own codec in it, and is measured as before
    ran(copied, ("evaluate", "latent"))
    assert figures(copied, "latent") == models

    ran(copied, ("encode", "latent"))
    after = {name: run_name(copied, name) for name in names}
    assert {name for name in names if after[name] != before[name]} == {"latent", "text"}
    recipe_of(copied, "latent", train=TRAIN | {"images": 32})
    ran(copied, ("train", "latent"))
    assert checkpoint(copied, "latent").sha256 != latent


def test_in_the_pipelines_only_what_is_made_of_latents_follows_the_codec() -> None:
    """DVC's own graph: of everything that would run again after `dvc repro` of the codec."""
    graph = Repo(str(ROOT)).index.graph
    names = [path.stem for path in (ROOT / "pipelines/recipes").glob("*.yaml")]
    places = {name: f"pipelines/recipes/{name}.yaml" for name in names}

    def recipes_of(stage: Any) -> set[str]:
        return {name for name, place in places.items() if place in (stage.cmd or "").split()}

    (codec,) = [one for one in graph if one.cmd == f"python pipelines/train.py {places['shapes-codec']}"]
    follows = networkx.ancestors(graph, codec)
    own = {
        name
        for name in places
        if getattr(load_recipe(Path(ROOT / places[name])).latents, "codec", "") == "shapes-codec"
    }
    assert any("encode.py" in one.cmd for one in follows)
    assert own <= set().union(*map(recipes_of, follows))
    trained = set().union(*(recipes_of(one) for one in follows if "pipelines/train.py" in one.cmd))
    assert trained <= own
    assert not any("prepare.py" in one.cmd or "extractor.py" in one.cmd for one in follows)


@pytest.mark.parametrize(
    ("gone", "command", "name", "named"),
    [
        ("out/upsampler/training.json", "train", "cascade", ["the model upsampler is not trained yet", "run `langevin train`"]),
        ("out/codec/training.json", "encode", "latent", ["the model codec is not trained yet", "run `langevin train`"]),
        ("out/codec/training.json", "train", "latent", ["the model codec is not trained yet", "run `langevin train`"]),
        ("out/data/latents", "train", "latent", ["out/data/latents", "run `langevin encode RECIPE` first"]),
    ],
)  # fmt: skip
def test_what_must_be_there_first(
    copied: Path, refused: Callable[..., str], gone: str, command: str, name: str, named: list[str]
) -> None:
    place = copied / gone
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    line = refused(command, copied / f"{name}.yaml")
    assert [part for part in named if part not in line] == []


def test_what_cannot_be_put_together(copied: Path, refused: Callable[..., str]) -> None:
    """In one line, when the recipe is trained: parts are known then."""
    cascade = RECIPES["cascade"]
    recipe = recipe_of(copied, "cascade", model=cascade["model"] | {"stages": ["base"]})
    assert "model.stages.0 = 'base': enlarges no images" in refused("train", recipe)
    recipe = recipe_of(copied, "cascade", sample=cascade["sample"] | {"levels": [0.7]})
    assert "sample.levels = [0.7]: upsampler was trained up to 0.5; lower it" in refused("train", recipe)
    assert "sample.levels = [0.7]" in refused("evaluate", recipe)
    recipe = recipe_of(copied, "latent", latents=LATENTS | {"root": "out/data/shapes"})
    assert "holds images, not latents" in refused("train", recipe)
    assert "latents: is missing: the model is one of images" in refused("encode", copied / "base.yaml")
