"""Parts that do not fit together are refused when the recipe is read: in one line, with file, field, value and mend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from langevin.config.assembly import assembled
from langevin.config.load import build, load_recipe
from langevin.config.recipe import Recipe
from langevin.config.table import METHODS
from langevin.data.manifest import Manifest
from langevin.errors import ConfigError
from langevin.methods.cascade import Cascade
from langevin.protocols import Adapts, Batch, Bounded, Reconstructs, Samples, condition_of
from langevin.randomness import Keys
from langevin.stages.foreseen import described
from langevin.stages.weightless import weightless

from .combinations import ALL, SMALLEST, sections
from .conftest import RECIPES

Written = Callable[..., Path]
SMALL = {"channels": 8, "multipliers": [1, 2], "blocks": 1}
ZERO_SNR = "no signal left at t = 1"
LADDER = {"sampler": "annealed_langevin", "steps": 10}
KARRAS = {"sampler": "dpm_solver", "grid": "karras"}
LATENTS = {"codec": "codec", "root": "out/data/latents"}
UPSAMPLING = {"lower": 4}
READS: dict[str, Any] = {"model.condition": "caption"}
OWN = {"autoencoder": "own", "vae": "own", "ardm": "autoregressive", "cascade": "stages"}

REFUSED: list[tuple[str, dict[str, Any], str, Any, str]] = [
    # method, changes, the field that is named, its value, a part of the mend
    ("rectified", {"model.prediction": "noise"}, "model.prediction", "noise", "take flow, velocity or data"),
    ("rectified", {"model.prediction": "score"}, "model.prediction", "score", "take flow, velocity or data"),
    ("rectified", {"sample": {"sampler": "euler_maruyama", "last": 1e-3}}, "sample.sampler", "euler_maruyama", "take ddim"),
    ("rectified", {"bound": {"kind": "continuous"}}, "bound.kind", "continuous", "take chain"),
    *(
        ("cld", {"sample": {"sampler": sampler, "last": 1e-3}}, "sample.sampler", sampler, "take sscs")
        for sampler in ("ddim", "ancestral", "heun", "dpm_solver", "reverse_diffusion", "predictor_corrector",
                        "annealed_langevin")
    ),
    ("cld", {"bound": {}}, "bound.kind", "chain", "take flow"),
    ("cld", {"bound": {"kind": "continuous"}}, "bound.kind", "continuous", "take flow"),
    ("cld", {"bound.calls": 3}, "bound.calls", 3, "raise it"),
    ("cld", {"sample": {"sampler": "sscs"}}, "sample.last", 0.0, "give 1e-3"),
    ("cld", {"sample.grid": "ladder", "sample.last": 0.0}, "sample.grid", "ladder", "remove it"),
    ("cld", {"sample.grid": "trailing", "sample.last": 0.0}, "sample.grid", "trailing", "take uniform"),
    ("cld", {"sample.grid": "karras", "sample.last": 0.0}, "sample.grid", "karras", "take uniform"),
    ("cld", {"sample.threshold": "dynamic"}, "sample.threshold", "dynamic", "remove it"),
    ("cld", {"model.beta": 0.5}, "model.beta", 0.5, "raise it"),
    ("ddpm", {"sample": {"sampler": "sscs"}}, "sample.sampler", "sscs", "take euler_maruyama"),
    ("ddpm", {"sample": LADDER}, "sample.sampler", "annealed_langevin", "take predictor_corrector"),
    ("score_sde", {"sample": LADDER, "model.schedule": {"name": "ve"}, "bound.last": 0.2}, "sample.sampler",
     "annealed_langevin", "take predictor_corrector"),
    ("ddpm", {"sample": {"sampler": "ancestral", "variance": "learned"}}, "sample.variance", "learned", "improved_ddpm"),
    ("vdm", {"sample": {"sampler": "ancestral", "variance": "learned"}}, "sample.variance", "learned", "improved_ddpm"),
    ("score_sde", {"model.times": "loss_aware"}, "model.times", "loss_aware", "improved_ddpm"),
    ("score_sde", {"model.schedule": {"name": "ve", "sigma_min": 3.0, "sigma_max": 3.0}}, "model.schedule.sigma_min", 3.0,
     "lower it"),
    ("score_sde", {"model.schedule": {"name": "vp", "beta_min": 30.0}}, "model.schedule.beta_min", 30.0, "lower it"),
    ("score_sde", {"model.schedule": {"name": "vp", "beta_max": 0.5}}, "model.schedule.beta_max", 0.5, "raise it"),
    ("score_sde", {"model.schedule": {"name": "ve", "sigma_max": 1.0}}, "model.schedule.sigma_max", 1.0, "raise it"),
    ("edm", {"model.sigma_min": 90.0}, "model.sigma_min", 90.0, "lower it"),
    ("edm2", {"model.sigma_max": 1.0}, "model.sigma_max", 1.0, "raise it"),
    ("ncsn", {"model.sigma_min": 5.0}, "model.sigma_min", 5.0, "lower it"),
    ("vdm", {"model.gamma_min": 6.0}, "model.gamma_min", 6.0, "lower it"),
    ("vdm", {"model.gamma_max": -2.0}, "model.gamma_max", -2.0, "raise it"),
    ("ddpm", {"model.schedule": {"name": "scaled_linear", "steps": 100}}, "model.schedule.steps", 100, "raise it"),
    ("ddpm", {"model.schedule": {"name": "linear", "steps": 10}}, "model.schedule.steps", 10, "raise it"),
    ("guided", {"model.condition_dropout": 0.2}, "model.condition_dropout", 0.2, "remove it"),
    # the grid
    *(
        ("score_sde", {"sample.grid": name}, "sample.grid", name, "take uniform")
        for name in ("trailing", "strided", "spread")
    ),
    *(("vdm", {"sample.grid": name}, "sample.grid", name, "take uniform") for name in ("karras", "uniform_log_snr")),
    ("ddpm", {"sample.grid": "ladder"}, "sample.grid", "ladder", "remove it"),
    ("ncsn", {"sample.grid": "uniform"}, "sample.grid", "uniform", "take ladder"),
    ("ncsn", {"sample.steps": 50}, "sample.steps", 50, "give 10"),
    ("ncsnv2", {"sample.steps": 50}, "sample.steps", 50, "give 12"),
    ("ddpm", {"sample.steps": 1001}, "sample.steps", 1001, "lower it"),
    ("ddpm", {"sample.last": 1e-3}, "sample.last", 1e-3, "take uniform"),
    ("edm", {"sample.last": 1e-3}, "sample.last", 1e-3, "take uniform"),
    ("ddpm", {"sample.grid": "uniform_log_snr"}, "sample.last", 0.0, "give 1e-3"),
    ("score_sde", {"sample.grid": "uniform_log_snr"}, "sample.last", 0.0, "give 1e-3"),
    ("ddpm", {"sample.grid": "uniform", "sample.last": 0.9}, "sample.last", 0.9, "lower it"),
    ("ddpm", {"sample.grid": "strided", "sample.steps": 1}, "sample.grid", "strided", "raise sample.steps"),
    ("edm", {"sample": {**KARRAS, "sigma_max": 0.5}}, "sample.grid", "karras", "another grid"),
    ("edm", {"sample": KARRAS, "model.sigma_max": 20.0}, "sample.sigma_max", 80.0, "give 20"),
    ("score_sde", {"sample": {**KARRAS, "sigma_max": 50.0}, "model.schedule": {"name": "ve"}, "bound.last": 0.2},
     "sample.sigma_min", 0.002, "give 0.01"),
    ("edm", {"sample": {"sampler": "heun", "grid": "uniform"}}, "sample.grid", "uniform", "take karras"),
    ("edm2", {"sample": {"sampler": "ddim", "grid": "quadratic"}}, "sample.grid", "quadratic", "take karras"),
    *(
        case
        for name in ("euler_maruyama", "probability_flow")
        for case in (
            ("ddpm", {"sample": {"sampler": name}}, "sample.grid", "trailing", "take uniform, and give sample.last"),
            ("score_sde", {"sample": {"sampler": name}}, "sample.last", 0.0, "give 1e-3"),
            ("score_sde", {"sample": {"sampler": name, "grid": "uniform_log_snr", "last": 1e-3}}, "sample.grid",
             "uniform_log_snr", "take uniform"),
        )
    ),
    ("ddpm", {"sample.threshold": "none"}, "sample.threshold", "none", "the prediction velocity"),
    # guidance
    ("ddpm", {"sample.guidance": 2.0, "sample.guidance_interval": [2.0, 2.0]}, "sample.guidance_interval", [2.0, 2.0],
     "[low, high]"),
    ("ddpm", {"sample.guidance_interval": [0.1, 2.0]}, "sample.guidance_interval", [0.1, 2.0], "change sample.guidance"),
    ("guided", {"sample.guidance": 2.0, "sample.guidance_interval": [0.1, 2.0]}, "sample.guidance_interval", [0.1, 2.0],
     "remove it"),
    ("cld", {"sample.guidance": 2.0, "sample.guidance_interval": [0.1, 2.0]}, "sample.guidance_interval", (0.1, 2.0),
     "remove it"),
    ("ddpm", {"model.condition_dropout": 0.0, "sample.guidance": 2.0}, "model.condition_dropout", 0.0, "give the share"),
    ("edm", {"model.condition_dropout": 1.0}, "model.condition_dropout", 1.0, "lower it"),
    # the bound
    ("vdm", {"bound": {}}, "bound.kind", "chain", "take continuous"),
    ("vdm", {"bound": {"kind": "flow"}}, "bound.kind", "flow", "take continuous"),
    ("edm", {"bound": {}}, "bound.last", 0.02, "give 0.00048"),
    ("score_sde", {"bound": {"kind": "continuous", "last": 0.9}}, "bound.last", 0.9, "give 0.00"),
    ("ddpm", {"bound": {"kind": "flow", "calls": 10}}, "bound.calls", 10, "remove it"),
    ("edm", {"sample.churn": 5.0, "sample.churn_min": 2.0, "sample.churn_max": 1.0}, "sample.churn_min", 2.0, "lower it"),
    # ways of models that are no denoisers, and denoising ways of those
    *(
        (method, {"sample": {"sampler": sampler}}, "sample.sampler", sampler, "take ddim")
        for method in ("ddpm", "edm", "vdm", "clip_guided") for sampler in ("own", "autoregressive", "stages")
    ),
    *(
        (method, {"sample": {"sampler": sampler}}, "sample.sampler", sampler, f"take {own}")
        for method, own in OWN.items() for sampler in ("ddim", "heun", "own", "autoregressive", "stages") if sampler != own
    ),
    *(
        (method, {"bound": {"kind": kind}}, "bound.kind", kind, "take chain")
        for method in ("ddpm", "rectified") for kind in ("orders", "latent")
    ),
    *(("ardm", {"bound": {"kind": kind}}, "bound.kind", kind, "take orders") for kind in ("chain", "flow", "latent")),
    *(
        (method, {"bound": {"kind": kind}}, "bound.kind", kind, "take latent")
        for method in ("vae", "autoencoder") for kind in ("chain", "continuous", "orders")
    ),
    ("cascade", {"sample.levels": [0.1, 0.2]}, "sample.levels", [0.1, 0.2], "give as many"),
    # what a model is wrapped in
    ("ddpm", {"latents": LATENTS, "bound": {"kind": "continuous"}}, "sample.threshold", "static", "give none"),
    ("ddpm", {"latents": LATENTS, "sample.threshold": "none"}, "bound.kind", "chain", "take continuous or flow"),
    *(
        (method, {"latents": LATENTS}, "model.method", method, "take ddpm, edm or rectified")
        for method in ("guided", "clip_guided", "cld")
    ),
    *((method, {"latents": LATENTS}, "latents", None, "remove it") for method in OWN),
    *((method, {"upsampling": UPSAMPLING}, "upsampling", None, "remove it") for method in OWN),
    ("ddpm", {"upsampling": UPSAMPLING, "latents": LATENTS}, "upsampling", None, "remove one of the two"),
    *(
        (method, {"upsampling": UPSAMPLING}, "model.method", method, "take ddpm or edm")
        for method in ("cld", "vdm", "edm2", "guided", "clip_guided")
    ),
    ("ddpm", {"upsampling": UPSAMPLING, "model.network": {"kind": "dit"}}, "model.network.kind", "dit", "take unet"),
    ("ddpm", {"upsampling": UPSAMPLING | {"augmentation": "blur", "level": 0.1}}, "upsampling.level", 0.1, "remove it"),
    ("ddpm", {"upsampling": UPSAMPLING | {"largest": 0.2, "level": 0.3}}, "upsampling.level", 0.3, "lower it"),
    # texts and tokens
    ("ddpm", {**READS, "model.text": {"width": 10}}, "model.text.width", 10, "give one"),
    ("clip_guided", {"model.text": {"width": 9, "heads": 2}}, "model.text.width", 9, "give one"),
    ("edm2", {**READS, "model.text": {}}, "model.condition", "caption", "take ddpm"),
    ("ddpm", {"model.network": {"kind": "dit", "width": 100}}, "model.network.width", 100, "give one"),
    ("edm2", {"model.network": {"kind": "dit"}}, "model.network.kind", "dit", "take unet"),
    ("clip_guided", {"sample.guidance": 2.0, "sample.guidance_interval": [0.1, 2.0]}, "sample.guidance_interval", [0.1, 2.0],
     "remove it"),
    ("ddpm", {**READS, "model.text": {"kind": "bert", "encoder": "b"}}, "model.text.kind", "bert", "correct it"),
]  # fmt: skip

FOREIGN: list[tuple[str, dict[str, Any], str, str]] = [
    # method, changes, the section, what is said of them
    ("ddpm", {"sample.churn": 0.5}, "sample", "churn means nothing to ddim, only to heun"),
    ("ddpm", {"sample.variance": "upper"}, "sample", "variance means nothing to ddim, only to ancestral"),
    ("improved_ddpm", {"sample.eta": 0.5}, "sample", "eta means nothing to ancestral, only to ddim and dpm_solver"),
    ("score_sde", {"sample.step_lr": 1e-4}, "sample", "step_lr means nothing to predictor_corrector"),
    ("ddpm", {"sample.rho": 5.0}, "sample", "rho means nothing to ddim, only to the grid karras"),
    ("ddpm", {"bound.probes": 2}, "bound", "probes means nothing to chain, only to flow"),
    ("vdm", {"bound.steps": 100}, "bound", "steps means nothing to continuous, only to chain"),
    ("cld", {"bound.last": 0.1}, "bound", "last means nothing to flow, only to chain and continuous"),
    ("ardm", {"bound.draws": 3}, "bound", "draws means nothing to orders, only to flow and latent"),
    ("ddpm", {"sample.levels": [0.1]}, "sample", "levels means nothing to ddim, only to stages"),
    ("vae", {"sample.steps": 7}, "sample", "steps means nothing to own, only to other samplers"),
    (
        "ardm",
        {"sample.threshold": "none"},
        "sample",
        "threshold means nothing to autoregressive, only to other samplers",
    ),
    ("cascade", {"sample.guidance": 2.0}, "sample", "guidance means nothing to stages, only to other samplers"),
    ("ddpm", READS, "model", "condition: caption and text (what reads the captions) need each other"),
    ("ddpm", {"model.text": {}}, "model", "condition: caption and text (what reads the captions) need each other"),
]


def mistake(path: Path) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_recipe(path)
    line = str(caught.value)
    assert line.startswith(str(path))
    assert "\n" not in line
    assert caught.value.exit_code == 2
    return caught.value


@pytest.mark.parametrize("method", SMALLEST)
def test_the_smallest_recipe_of_every_method_is_one(written: Written, manifest: Manifest, method: str) -> None:
    recipe = load_recipe(written(sections(method, **{"model.network": SMALL})))
    build(recipe, replace(manifest, captions=method == "clip_guided"))


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("autoencoder", {}),
        ("autoencoder", {"model.adversarial": 0.0, "model.network": SMALL | {"patch": 2}}),
        ("vae", {"bound.draws": 4}),
        ("ardm", {"sample.steps": 6}),
        ("ardm", {"sample.steps": 6, "sample.guidance": 1.5, "model.base": 5}),
        ("clip_guided", {"model.image": SMALL, "sample.steps": 3, "sample.guidance": 2.0}),
    ],
)
def test_it_learns_samples_and_bounds(
    written: Written, manifest: Manifest, method: str, changes: dict[str, Any]
) -> None:
    """Steps on one batch lower its loss and move every weight; a sample and a bound are of one image alone."""
    path = written(sections(method, **{"model.network": SMALL, **changes}))
    model: Any = build(load_recipe(path), replace(manifest, captions=method == "clip_guided"))
    torch.manual_seed(0)
    images = torch.linspace(-1, 1, 17)[torch.randint(0, 17, (8, 1, 8, 8))]
    captions = torch.randint(97, 123, (8, 5)) if method == "clip_guided" else None
    data = Batch(images, torch.arange(8), torch.arange(8), tuple("abcdefgh"), captions)
    keys = Keys.range(3, 0, 8)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimiser, losses = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0), []
    for _ in range(6):
        optimiser.zero_grad()
        found = model.loss(data, keys)
        found.total.mean().backward()
        optimiser.step()
        losses.append(float(found.total.mean().detach()))
        if isinstance(model, Adapts):
            model.adapt(data.ordinals, found.terms)
    assert losses[-1] < losses[0]
    assert [name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])] == []

    one, alone = data[5:6], Keys.range(3, 5, 6)
    assert isinstance(model, Bounded)
    whole = model.bound(data, keys).total
    assert bool((whole > 0).all())
    torch.testing.assert_close(model.bound(one, alone).total, whole[5:6], rtol=1e-4, atol=1e-3)
    if method == "autoencoder":
        assert isinstance(model, Reconstructs)
        assert not isinstance(model, Samples)
        return
    drawn = model.sample(keys, condition_of(model, data))
    assert -1 <= float(drawn.min()) < float(drawn.max()) <= 1
    torch.testing.assert_close(model.sample(alone, condition_of(model, one)), drawn[5:6], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(drawn[0], drawn[1], atol=0.01)


@pytest.mark.parametrize(("method", "changes", "field", "value", "mend"), REFUSED)
def test_what_cannot_work_is_refused(
    written: Written, method: str, changes: dict[str, Any], field: str, value: Any, mend: str
) -> None:
    error = mistake(written(sections(method, **changes)))
    assert (error.field, error.value) == (field, value)
    assert (field if value is None else f"{field} = {value!r}") in str(error)
    assert mend in str(error.mend)


@pytest.mark.parametrize(("method", "changes", "section", "said"), FOREIGN)
def test_a_knob_of_another_sampler_or_bound_is_refused(
    written: Written, method: str, changes: dict[str, Any], section: str, said: str
) -> None:
    error = mistake(written(sections(method, **changes)))
    assert error.field == section
    assert said in str(error)
    assert error.mend is not None


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("rectified", {"model.prediction": "data"}),
        ("rectified", {"bound": {"kind": "flow"}}),
        ("ncsn", {"sample": {"sampler": "ddim", "steps": 20}}),
        ("ddpm", {"sample": {"sampler": "euler_maruyama", "grid": "uniform", "last": 1e-3}}),
        ("ddpm", {"sample": {"sampler": "probability_flow", "grid": "uniform", "last": 1e-3, "steps": 1}}),
        ("edm", {"sample": {"sampler": "probability_flow", "steps": 1}}),
        ("edm", {"sample": {**KARRAS, "sigma_max": 20.0}}),
        ("ddpm", {"sample.grid": "uniform_log_snr", "sample.last": 1e-3}),
        ("ddpm", {"sample.guidance": 3.0, "sample.guidance_interval": [0.0, 3.0]}),
        ("ddpm", {"model.condition_dropout": 0.0}),
        ("ddpm", {"sample.threshold": "none", "model.prediction": "velocity"}),
        ("ddpm", {"sample.threshold": "none", "model.schedule": {"name": "linear"}}),
        ("ddpm", {"model.condition_dropout": 1.0, "sample.guidance": 0.0}),
        ("ddpm", {"bound": {"kind": "continuous", "calls": 2000}}),
        ("cld", {"sample": {"sampler": "probability_flow", "last": 1e-3, "guidance": 2.0}}),
        ("cld", {"bound.calls": 400}),
    ],
)
def test_what_can_is_let_through(written: Written, method: str, changes: dict[str, Any]) -> None:
    load_recipe(written(sections(method, **changes)))


@pytest.mark.parametrize(
    ("method", "changes", "near"),
    [
        ("score_sde", {"model.schedule": {"name": "vp", "beta_mn": 0.1}}, "model.schedule.beta_min"),
        ("score_sde", {"model.schedule": {"name": "ve", "sigma_mx": 10.0}}, "model.schedule.sigma_max"),
        ("edm", {"model.sigma_dat": 0.5}, "model.sigma_data"),
        ("guided", {"model.classifier": {"channel": 8}}, "model.classifier.channels"),
        ("vdm", {"model.network": {"block": 8}}, "model.network.blocks"),
        ("ddpm", {"model.schedule": {"nam": "cosine"}}, "model.schedule.name"),
        ("ddpm", {"model.network": {"kind": "dit", "widht": 8}}, "model.network.width"),
        ("ddpm", {**READS, "model.text": {"widht": 8}}, "model.text.width"),
        ("ddpm", {**READS, "model.text": {"kind": "clip", "encoder": "c", "lenght": 8}}, "model.text.length"),
        ("clip_guided", {"model.text": {"widht": 8}}, "model.text.width"),
        ("vae", {"model.network": {"patsch": 8}}, "model.network.patch"),
        ("ddpm", {"latents": {"codek": "a", "root": "b"}}, "latents.codec"),
        ("ddpm", {"upsampling": {"lowr": 4}}, "upsampling.lower"),
        ("cascade", {"model.stags": ["a"]}, "model.stages"),
    ],
)
def test_an_unknown_field_of_a_choice_names_the_nearest(
    written: Written, method: str, changes: dict[str, Any], near: str
) -> None:
    error = mistake(written(sections(method, **changes)))
    assert error.mend == f"did you mean {near}?"
    assert near.rsplit(".", 1)[0] == str(error.field).rsplit(".", 1)[0]


def test_a_field_of_another_method_is_none_of_this_one(written: Written) -> None:
    error = mistake(written(sections("rectified", **{"model.sigma_max": 3.0})))
    assert (error.field, error.value) == ("model.sigma_max", None)
    assert error.mend == "the fields here are network, condition, text, condition_dropout, method, prediction"


def test_a_method_or_schedule_that_there_is_not_lists_those_there_are(written: Written) -> None:
    error = mistake(written({"model.method": "magic"}))
    assert (error.field, error.value) == ("model.method", "magic")
    assert error.mend == f"choose from {', '.join(ALL)}"
    assert list(SMALLEST) == list(METHODS)
    error = mistake(written(sections("score_sde", **{"model.schedule": {"name": "vq"}})))
    assert (error.field, error.value) == ("model.schedule.name", "vq")
    assert error.mend == "choose from vp, subvp, ve, cosine"


def test_a_choice_without_a_name_asks_for_it(written: Written) -> None:
    error = mistake(written(sections("score_sde", **{"model.schedule": {"beta_min": 0.1}})))
    assert (error.field, error.mend) == ("model.schedule.name", "add it")
    error = mistake(written({}, remove=("model.method",)))
    assert (error.field, error.mend) == ("model.method", "add it")


def refused_at_build(path: Path, manifest: Manifest) -> ConfigError:
    recipe = load_recipe(path)
    with pytest.raises(ConfigError) as caught:
        build(recipe, manifest)
    assert "\n" not in str(caught.value)
    return caught.value


def test_guided_needs_classes(written: Written, manifest: Manifest) -> None:
    for classes in ((), ("one",)):
        error = refused_at_build(written(sections("guided")), replace(manifest, classes=classes))
        assert (error.field, error.value) == ("model.method", "guided")
        assert "improved_ddpm" in str(error.mend)


def test_guidance_needs_classes(written: Written, manifest: Manifest) -> None:
    unlabelled = replace(manifest, classes=())
    error = refused_at_build(written(sections("ddpm", **{"sample.guidance": 2.0})), unlabelled)
    assert (error.field, error.value, error.mend) == ("sample.guidance", 2.0, "remove it")
    build(load_recipe(written(sections("ddpm", **{"model.network": SMALL}))), unlabelled)


def test_the_ladder_that_the_data_choose_needs_its_own_steps(written: Written, manifest: Manifest) -> None:
    """NCSNv2's technique 2 knows the levels by the images' size."""
    path = written(sections("ncsnv2", **{"model.levels": None, "model.sigma_max": 14.0}))
    error = refused_at_build(path, manifest)
    assert (error.field, error.value, error.mend) == ("sample.steps", 12, "give 22")


@pytest.mark.parametrize("part", ["network", "classifier"])
def test_networks_must_fit_the_images(written: Written, manifest: Manifest, part: str) -> None:
    error = refused_at_build(
        written(sections("guided", **{f"model.{part}": {"multipliers": [1, 1, 1, 1, 1]}})), manifest
    )
    assert error.field == f"model.{part}.multipliers"
    error = refused_at_build(written(sections("guided", **{f"model.{part}": {"attention": [16]}})), manifest)
    assert (error.field, error.value, error.mend) == (f"model.{part}.attention", 16, "choose from 8, 4")


def test_captions_need_captions(written: Written, manifest: Manifest) -> None:
    for method, changes in (("ddpm", {**READS, "model.text": {}}), ("clip_guided", {})):
        error = refused_at_build(written(sections(method, **{"model.network": SMALL, **changes})), manifest)
        assert (error.field, error.value, error.mend) == ("model.condition", "caption", "take class")


@pytest.mark.parametrize("method", ["autoencoder", "vae"])
def test_a_codecs_parts_must_fit_the_images(written: Written, manifest: Manifest, method: str) -> None:
    error = refused_at_build(written(sections(method, **{"model.network": {"patch": 3}})), manifest)
    assert (error.field, error.value, error.mend) == ("model.network.patch", 3, "give a divisor")
    error = refused_at_build(
        written(sections(method, **{"model.network": {"patch": 4, "multipliers": [1, 1, 1]}})), manifest
    )
    assert (error.field, error.value) == ("model.network.multipliers", (1, 1, 1))


@pytest.mark.parametrize("lower", [3, 8, 16])
def test_a_stage_enlarges_by_a_whole_number(written: Written, manifest: Manifest, lower: int) -> None:
    path = written(sections("ddpm", **{"model.network": SMALL, "upsampling": {"lower": lower}}))
    error = refused_at_build(path, manifest)
    assert (error.field, error.value, error.mend) == ("upsampling.lower", lower, "give one")


def of_cascade(*parts: tuple[int, dict[str, Any] | None], levels: list[float] | None = None) -> dict[str, Any]:
    """What a cascade's checkpoint says. parts: the side of each one's images, and its section upsampling."""
    names = [f"m{number}" for number in range(len(parts))]
    data = {"classes": [], "levels": 17}
    plain = {"model": {"method": "ddpm", "network": SMALL}, "sample": {"steps": 2}, "bound": {}}
    described = [
        plain | {"data": data | {"shape": [1, side, side]}} | ({"upsampling": told} if told else {}) for side, told in parts
    ]  # fmt: skip
    model = {"method": "cascade", "base": names[0], "stages": names[1:]}
    return {"model": model, "sample": {"sampler": "stages", "levels": levels}, "bound": {}, "parts": described}


@pytest.mark.parametrize(
    ("said", "field", "value", "mend"),
    [
        (of_cascade((8, {"lower": 4}), (16, {"lower": 8})), "model.base", "m0", "take the stages' base"),
        (of_cascade((8, None), (16, None)), "model.stages.0", "m1", "the section upsampling"),
        (of_cascade((4, None), (16, {"lower": 8})), "model.stages.0", "m1", "follow one another"),
        (of_cascade((4, None), (8, {"lower": 4}), (16, {"lower": 4})), "model.stages.1", "m2", "follow one another"),
        (of_cascade((8, None), (16, {"lower": 8}), levels=[0.6]), "sample.levels", [0.6], "lower it"),
        (of_cascade((8, None), (16, {"lower": 8, "augmentation": "blur"}), levels=[0.1]), "sample.levels", [0.1], "lower it"),
    ],
)  # fmt: skip
def test_parts_that_make_no_cascade(said: dict[str, Any], field: str, value: Any, mend: str) -> None:
    with pytest.raises(ConfigError) as caught:
        assembled(said)
    assert (caught.value.field, caught.value.value) == (field, value)
    assert mend in str(caught.value.mend)


def test_parts_that_make_a_cascade() -> None:
    made = assembled(of_cascade((4, None), (8, {"lower": 4}), (16, {"lower": 8}), levels=[0.5, 0.1]))
    assert isinstance(made, Cascade)
    assert (made.image_shape, made.levels) == ((1, 16, 16), (0.5, 0.1))


def foreseen(recipe: Recipe, path: Path) -> dict[str, Any]:
    """What its checkpoint would say; a cascade's parts lie beside it."""
    model: Any = recipe.model
    if model.method != "cascade":
        return described(recipe, path)
    beside = [path.with_name(f"{name}.yaml") for name in (model.base, *model.stages)]
    parts = [described(load_recipe(one), one) for one in beside]
    return {"model": model.plain(), "sample": recipe.sample.plain(), "bound": recipe.bound.plain(), "parts": parts}


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_builds(path: Path) -> None:
    """For its own images, with its codec or its stages, however large: nothing but the weights' shapes is made."""
    with weightless():
        model = assembled(foreseen(load_recipe(path), path))
    assert sum(parameter.numel() for parameter in model.parameters()) > 10_000


@pytest.mark.parametrize("method", sorted(ALL.keys() - {"clip_guided"}))  # a baseline, to be measured beside others
def test_every_method_has_a_recipe(method: str) -> None:
    assert method in {load_recipe(path).model.method for path in RECIPES.glob("*.yaml")}
