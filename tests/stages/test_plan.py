"""A plan is what the model does: its parameters, operations and kept bytes to the last one, its calls as they are counted."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from e2e.recipes import ROOT, write_recipe

from langevin.config.assembly import assembled
from langevin.config.load import load_recipe
from langevin.data.sources import Shapes
from langevin.errors import ConfigError, DataError
from langevin.networks.cost import GPUS, kept_bytes, operations
from langevin.protocols import Batch
from langevin.randomness import Keys
from langevin.stages import plan_lines
from langevin.stages.evaluator import network_calls
from langevin.stages.foreseen import described, source_info
from langevin.stages.plan import Machine, Priced, fewest_gpus, memory, plan
from langevin.stages.prepare import prepare
from langevin.stages.weightless import IMAGES, KINDS, weightless

RECIPES = ROOT / "pipelines" / "recipes"
LARGE = sorted(path for path in RECIPES.glob("*.yaml") if path.stem.startswith(("cifar10", "imagenet")))
SHAPES = {"source": "shapes", "size": 16, "count": 64, "root": "out/data/shapes"}
UNET = {"channels": 8, "multipliers": [1, 2], "blocks": 1, "attention": [8]}
CODEC: dict[str, Any] = {
    "name": "codec", "data": SHAPES, "sample": {"sampler": "own"}, "bound": {"kind": "latent"},
    "model": {"method": "autoencoder", "adversarial_from": 1000,
              "network": {"channels": 8, "multipliers": [1, 2], "latent_channels": 3}},
}  # fmt: skip
LATENT: dict[str, Any] = {
    "data": SHAPES, "latents": {"codec": "codec", "root": "out/data/latents"}, "bound": {"kind": "continuous"},
    "sample": {"sampler": "ddim", "steps": 5, "guidance": 2.0, "threshold": "none"},
    "model": {"method": "ddpm", "prediction": "velocity",
              "network": {"kind": "dit", "patch": 2, "width": 32, "depth": 2, "heads": 2}},
}  # fmt: skip
SMALL: dict[str, dict[str, Any]] = {
    "ddpm": {},
    "dit": {"data": SHAPES, "model": {"method": "rectified", "network": LATENT["model"]["network"]},
            "sample": {"sampler": "heun", "steps": 4}},
    "reading": {"data": SHAPES, "sample": {"steps": 3, "guidance": 3.0}, "model": {
        "method": "ddpm", "network": UNET, "condition": "caption", "text": {"width": 16, "layers": 1, "heads": 2}}},
    "guided": {"model": {"method": "guided", "network": {"channels": 8}, "classifier": {"channels": 8, "blocks": 1}},
               "sample": {"sampler": "ancestral", "steps": 5, "guidance": 2.0}},
    "upsampling": {"data": SHAPES, "upsampling": {"lower": 8}, "model": {"method": "edm", "network": UNET},
                   "sample": {"sampler": "heun", "steps": 3, "threshold": "none"}, "bound": {"last": 5e-4}},
    "codec": CODEC,
    "latent": LATENT,
}  # fmt: skip


@pytest.fixture
def written(home: Path) -> Callable[..., Path]:
    """A small recipe of SMALL, with the codec's beside it."""
    write_recipe(home / "codec.yaml", **CODEC)
    return lambda kind, **changes: write_recipe(home / f"{kind}.yaml", **({"name": kind} | SMALL[kind] | changes))


def batch(priced: Priced, shape: tuple[int, ...], count: int) -> Batch:
    """Random images on their grey levels, or latents."""
    torch.manual_seed(0)
    images = (torch.rand(count, *shape) * 15).round() / 8 - 1
    captions = torch.ones(count, 96, dtype=torch.int64) if priced.info.captions else None
    labels, ordinals = torch.arange(count) % 10, torch.arange(count)
    return Batch(images, labels, ordinals, tuple(map(str, range(count))), captions)


@pytest.mark.parametrize("kind", SMALL)
def test_parameters_operations_and_kept_bytes_are_the_real_models(written: Callable[..., Path], kind: str) -> None:
    """Against the model with weights, in a real forward and backward pass, as torch counts it. Equal, not nearly."""
    path = written(kind)
    recipe = load_recipe(path)
    priced = Priced(recipe, path)
    real: Any = assembled(described(recipe, path))
    assert priced.step.trained == sum(p.numel() for p in real.parameters() if p.requires_grad)
    assert priced.step.frozen == sum(p.numel() for p in real.parameters() if not p.requires_grad)
    assert (priced.step.frozen > 0) == (kind == "latent")
    given = batch(priced, (3, 8, 8) if kind == "latent" else priced.shape, IMAGES)
    keys = Keys(0, given.ordinals)
    assert IMAGES * priced.step.forward == operations(lambda: real.loss(given, keys).total)
    assert IMAGES * priced.step.training == operations(lambda: real.loss(given, keys).total.sum().backward())
    own = [*real.parameters(), *real.buffers()]
    kept = kept_bytes(lambda: real.loss(given, keys).total, own)
    # an image between two networks is saved once by both of them, and counted for each
    assert IMAGES * priced.step.activations + priced.step.fixed == pytest.approx(kept, rel=0.02)


@pytest.mark.parametrize(
    ("kind", "calls"),
    # ddim one a step; heun two, one at the end, and one in the step that starts at alpha = 0; a guided step two; a decoder
    [("ddpm", 4), ("dit", 6), ("reading", 6), ("guided", 10), ("upsampling", 5), ("latent", 11)],
)
def test_a_sample_takes_the_calls_that_the_sampler_makes(written: Callable[..., Path], kind: str, calls: int) -> None:
    path = written(kind)
    priced = Priced(load_recipe(path), path)
    assert priced.draw is not None
    assert priced.draw.calls == calls
    real = assembled(described(priced.recipe, path)).eval()
    assert network_calls(real, batch(priced, priced.shape, 1)) == calls


def test_a_guiding_classifiers_gradient_is_a_part_of_a_sample(written: Callable[..., Path]) -> None:
    """Ancestral steps, five: each the network forward, the classifier forward and back to the image, not to its weights."""
    path = written("guided")
    priced = Priced(load_recipe(path), path)
    real: Any = assembled(described(priced.recipe, path)).eval().requires_grad_(False)
    x, noise = torch.zeros(1, 1, 8, 8), torch.zeros(1)
    led = x.clone().requires_grad_()
    denoised = operations(lambda: real.denoiser.network(x, noise))
    classified = operations(lambda: real.parts["classifier"](led, noise).sum().backward())
    assert classified > operations(lambda: real.parts["classifier"](x, noise))
    assert priced.draw is not None
    assert priced.draw.operations == 5 * (denoised + classified)


def test_guidance_doubles_a_sample(written: Callable[..., Path]) -> None:
    machine = Machine()
    plain, guided = (plan(written("ddpm", sample={"steps": 4, "guidance": scale}), machine) for scale in (1.0, 1.5))
    assert guided["sampling"]["operations"] == 2 * plain["sampling"]["operations"]
    assert guided["training"] == plain["training"]


def test_an_adaptive_solver_has_no_number_of_calls(written: Callable[..., Path]) -> None:
    sample = {"sampler": "probability_flow", "steps": 1, "grid": "uniform", "last": 1e-3}
    found = plan(written("ddpm", model__method="score_sde", model__schedule={"name": "vp"}, sample=sample), Machine())
    assert found["sampling"] is None
    assert "tolerance" in plan_lines.lines(found)


SAID = {"train__images": 10**6, "train__batch": 64, "train__ema_stds": [0.05, 0.1]}


def test_hours_and_memory_follow_from_the_machine(written: Callable[..., Path]) -> None:
    path = written("ddpm", **SAID)
    one, four = plan(path, Machine(1, "A100-80", 0.2)), plan(path, Machine(4, "A100-80", 0.4))
    rate = GPUS["A100-80"].peaks["fp32"] * 0.2
    assert one["training"]["images_per_second"] == pytest.approx(rate / one["operations"]["training"])
    assert one["training"]["hours"] == pytest.approx(10**6 / one["training"]["images_per_second"] / 3600)
    assert one["training"]["hours"] == pytest.approx(8 * four["training"]["hours"])
    tensor = plan(path, Machine(1, "A100-80", 0.2, "bf16"))
    assert one["training"]["hours"] == pytest.approx(16 * tensor["training"]["hours"])
    learns = plan(written("ddpm", **SAID, train__precision="bf16"), Machine(1, "A100-80", 0.2))
    assert learns["training"] == tensor["training"]
    assert learns["machine"] == tensor["machine"]
    assert learns["sampling"] == one["sampling"]  # which is in float32
    parts = plan(written("ddpm", **SAID, train__accumulate=4), Machine(2, "A100-80", 0.2))["memory"]
    assert parts["activations"] == one["memory"]["activations"] // 8
    held = one["memory"]
    assert (held["weights"], held["moments"], held["averages"]) == (
        4 * one["parameters"],
        2 * held["weights"],
        3 * held["weights"],
    )
    assert held["activations"] == 4 * four["memory"]["activations"]
    assert held["total"] == sum(held[name] for name in ("weights", "gradients", "moments", "averages", "activations"))


def test_the_fewest_gpus_are_those_on_which_it_fits(written: Callable[..., Path]) -> None:
    path = written("ddpm", train__batch=64)
    priced = Priced(load_recipe(path), path)
    of = memory(priced, 10).total
    assert fewest_gpus(priced, of) == 7
    assert fewest_gpus(priced, memory(priced, 0).total) is None


def test_nothing_is_left_behind(written: Callable[..., Path]) -> None:
    """Networks that are built later have their weights, and the global generator is where it was."""
    path = written("guided")
    recipe = load_recipe(path)
    before = [kind.__init__ for kind in KINDS]
    with pytest.raises(KeyError), weightless():
        assembled({})
    assert [kind.__init__ for kind in KINDS] == before
    Priced(recipe, path)
    assert all(p.device.type == "cpu" for p in assembled(described(recipe, path)).parameters())


def test_what_images_will_be(home: Path) -> None:
    path = write_recipe(home / "r.yaml", data=SHAPES | {"size": 16, "reduced_from": 32})
    foreseen, real = source_info(load_recipe(path).data, path), Shapes(16, 4).info
    assert foreseen == real
    found = source_info(load_recipe(write_recipe(path)).data, path)
    assert (found.shape, found.levels, len(found.classes)) == ((1, 8, 8), 17, 10)


class TestFolder:
    @pytest.fixture
    def folder(self, home: Path) -> Path:
        """Three class folders, with a picture each that nobody reads, and a hidden one."""
        for name in ("cat", "dog", "owl", ".cache"):
            (home / "pictures" / name).mkdir(parents=True)
            (home / "pictures" / name / "1.png").touch()
        return home / "pictures"

    def recipe(self, home: Path, **data: Any) -> Path:
        section = {"source": "folder", "images": "pictures", "size": 8, "root": "out/data/pictures"}
        return write_recipe(home / "r.yaml", data=section | data)

    def test_classes_are_counted_where_the_folder_is(self, home: Path, folder: Path) -> None:
        assert plan(self.recipe(home), Machine())["classes"] == 3

    def test_and_said_by_the_recipe_where_it_is_not(self, home: Path) -> None:
        assert plan(self.recipe(home, classes=7), Machine())["classes"] == 7
        with pytest.raises(
            ConfigError, match=r"r\.yaml: data\.classes: is needed where .*pictures is not there .*give the number"
        ):
            plan(self.recipe(home), Machine())

    def test_another_number_is_refused_before_a_picture_is_read(self, home: Path, folder: Path) -> None:
        recipe = self.recipe(home, classes=4)
        with pytest.raises(DataError, match=r"pictures: data\.classes = 4: the folder holds 3 class folders; give 3"):
            prepare(load_recipe(recipe))
        with pytest.raises(DataError, match=r"data\.classes = 4"):
            plan(recipe, Machine())

    def test_other_sources_have_their_own(self, home: Path) -> None:
        with pytest.raises(ConfigError, match="classes is for source folder, and digits has its own"):
            load_recipe(write_recipe(home / "r.yaml", data__classes=10))


class TestParts:
    def test_a_latent_model_is_priced_with_its_encoding(self, written: Callable[..., Path]) -> None:
        found = plan(written("latent"), Machine())
        assert (found["latents"]["codec"], found["latents"]["shape"]) == ("codec", [3, 8, 8])
        path = written("codec")
        real: Any = assembled(described(load_recipe(path), path)).eval()
        image = torch.zeros(1, 3, 16, 16)
        assert found["latents"]["operations"] == operations(lambda: real.codec.encode(image, None))
        assert "by codec, once" in plan_lines.lines(found)

    def test_a_codec_that_is_none(self, written: Callable[..., Path], home: Path) -> None:
        (home / "codec.yaml").unlink()
        with pytest.raises(
            ConfigError, match=r"latent\.yaml: latents\.codec = 'codec': there is no such recipe .*lay it at .*codec"
        ):
            plan(written("latent"), Machine())
        write_recipe(home / "codec.yaml", name="codec")
        with pytest.raises(
            ConfigError, match=r"latents\.codec = 'codec': names a recipe of ddpm, which makes no latents"
        ):
            plan(written("latent"), Machine())

    def test_a_cascade_is_its_stages_and_their_sum(self, written: Callable[..., Path], home: Path) -> None:
        base = written("dit", data=SHAPES | {"size": 8, "reduced_from": 16})
        stage = written("upsampling")
        model = {"method": "cascade", "base": "dit", "stages": ["upsampling"]}
        path = write_recipe(
            home / "cascade.yaml", data=SHAPES, model=model, train=None, sample={"sampler": "stages"}, bound={}
        )
        found, parts = plan(path, Machine()), [plan(part, Machine()) for part in (base, stage)]
        assert found["stages"] == parts
        assert found["parameters"] == sum(part["parameters"] for part in parts)
        assert found["training"]["hours"] == sum(part["training"]["hours"] for part in parts)
        assert found["sampling"]["operations"] == sum(part["sampling"]["operations"] for part in parts)
        assert plan_lines.lines(found).index("upsampling (edm)") < plan_lines.lines(found).index("(cascade)")
        model["base"] = "cascade"
        write_recipe(path, data=SHAPES, model=model, train=None, sample={"sampler": "stages"}, bound={})
        with pytest.raises(ConfigError, match=r"model\.base = 'cascade': is a cascade itself; name its stages"):
            plan(path, Machine())

    def test_parts_that_do_not_fit_the_images_name_the_recipe(self, written: Callable[..., Path]) -> None:
        network = LATENT["model"]["network"] | {"patch": 3}
        with pytest.raises(
            ConfigError, match=r"dit\.yaml: model\.network\.patch = 3: does not divide images of 16 x 16"
        ):
            plan(written("dit", model={"method": "rectified", "network": network}), Machine())


@functools.cache
def large(name: str) -> dict[str, Any]:
    return plan(RECIPES / f"{name}.yaml", Machine(64, "H100", 0.4, "bf16"))


class TestLarge:
    """The recipes for nodes with GPUs, which nobody trains in a test."""

    @pytest.mark.parametrize(
        ("name", "parameters", "multiplications"),
        [
            # Ho et al. 2020, appendix B: 35.7 M, here with classes and attention in the middle's place
            ("cifar10-ddpm", 35.7e6, 6.1e9),
            # Dhariwal & Nichol 2021, table 4: 296 M, with residual blocks where these have plain convolutions
            ("imagenet64-edm", 296e6, 104e9),
            # Peebles & Xie 2022, table 4: 675 M and 118.6 Gflops, by which they mean multiplications
            ("imagenet256-dit", 675e6, 118.6e9),
        ],
    )
    def test_they_are_about_as_large_as_the_papers_say(
        self, name: str, parameters: float, multiplications: float
    ) -> None:
        found = large(name)
        assert found["parameters"] == pytest.approx(parameters, rel=0.1)
        assert found["operations"]["forward"] / 2 == pytest.approx(multiplications, rel=0.1)

    def test_each_is_priced(self) -> None:
        cascade = large("imagenet256-cascade")
        parts = {stage["recipe"] for stage in cascade["stages"]}
        assert parts == {"imagenet64-base", "imagenet256-upsampler"}
        for name in {path.stem for path in LARGE} - parts:
            found = large(name)
            assert json.loads(json.dumps(found)) == found
            assert found["training"]["hours"] > 0

    def test_the_pipeline_knows_all_of_them(self) -> None:
        listed = subprocess.run([sys.executable, "-m", "dvc", "stage", "list", "pipelines/gpu/dvc.yaml", "--name-only"],
                                cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()  # fmt: skip
        stages = {line.rpartition(":")[2] for line in listed}
        assert {f"evaluate@{path.stem}" for path in LARGE} <= stages
        dag = subprocess.run([sys.executable, "-m", "dvc", "dag", "--dot", "pipelines/gpu/dvc.yaml"],
                             cwd=ROOT, capture_output=True, text=True, check=True).stdout  # fmt: skip
        edges = {
            tuple(part.strip('"; ').rpartition(":")[2] for part in line.split("->"))
            for line in dag.splitlines()
            if "->" in line
        }
        assert {
            ("prepare@imagenet256", "train@imagenet256-codec"),
            ("train@imagenet256-codec", "encode@imagenet256-dit"),
            ("encode@imagenet256-dit", "train-latent@imagenet256-dit"),
            ("train-latent@imagenet256-dit", "evaluate@imagenet256-dit"),
            ("train@imagenet64-base", "cascade"),
            ("train-upsampler", "cascade"),
            ("cascade", "evaluate@imagenet256-cascade"),
        } <= edges
