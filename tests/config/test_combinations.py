"""Parts that do not fit together are refused when the recipe is read: in one line, with file, field, value and mend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from langevin.config.load import build, load_recipe
from langevin.data.manifest import Manifest
from langevin.errors import ConfigError

from .combinations import SMALLEST, sections
from .conftest import RECIPES

Written = Callable[..., Path]
SMALL = {"channels": 8, "multipliers": [1, 2], "blocks": 1}
ZERO_SNR = "no signal left at t = 1"
LADDER = {"sampler": "annealed_langevin", "steps": 10}
KARRAS = {"sampler": "dpm_solver", "grid": "karras"}

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
    build(recipe, manifest)


@pytest.mark.parametrize(("method", "changes", "field", "value", "mend"), REFUSED)
def test_what_cannot_work_is_refused(
    written: Written, method: str, changes: dict[str, Any], field: str, value: Any, mend: str
) -> None:
    error = mistake(written(sections(method, **changes)))
    assert (error.field, error.value) == (field, value)
    assert f"{field} = {value!r}" in str(error)
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
    assert error.mend == f"choose from {', '.join(SMALLEST)}"
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


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_builds(path: Path, manifest: Manifest) -> None:
    """For the digits, as all of them are."""
    model: Any = build(load_recipe(path), manifest)
    assert sum(parameter.numel() for parameter in model.parameters()) > 10_000


@pytest.mark.parametrize("method", SMALLEST)
def test_every_method_has_a_recipe(method: str) -> None:
    assert method in {load_recipe(path).model.method for path in RECIPES.glob("*.yaml")}
