"""A model and what is around it that do not fit together."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from langevin.config import model as sections
from langevin.config.checks.refusal import is_ladder, refuse
from langevin.config.checks.sampling import NOISE_ALONE, check_sampling
from langevin.config.parts import PREDICTIONS, has_signal, schedule
from langevin.config.recipe import Recipe
from langevin.diffusion.parameterizations import needs_signal
from langevin.diffusion.schedules import Schedule, Tabulated

ENDS = (("sigma_min", "sigma_max"), ("gamma_min", "gamma_max"), ("beta_min", "beta_max"))
LENGTHS = ("steps", "sigma_max", "beta_max", "gamma_max", "beta")  # what decides how much noise there is at t = 1


def check(recipe: Recipe, path: Path | None) -> None:
    """ConfigError where the recipe's parts do not fit together."""
    if recipe.train.workers > recipe.train.batch:
        refuse(path, "train.batch", recipe.train.batch, f"fewer images than the {recipe.train.workers} workers",
                "give every worker at least one")  # fmt: skip
    share = recipe.train.batch // max(recipe.train.workers, 1)
    if recipe.train.accumulate > share:
        refuse(path, "train.accumulate", recipe.train.accumulate, f"more parts than a worker's share has images, {share}",
                "lower it")  # fmt: skip
    _check_around(recipe, path)
    if recipe.evaluate.beside and isinstance(recipe.model, sections.Cascade):
        refuse(
            path,
            "evaluate.beside",
            True,
            "is for trainings, and a cascade is put together of trained models",
            "remove it",
        )
    if not isinstance(recipe.model, sections.Gaussian):
        check_sampling(recipe.model, recipe.sample, recipe.bound, path)
        return
    try:
        along = schedule(recipe.model)
    except ValueError as error:
        refuse(path, "model.schedule.steps", recipe.model.schedule.steps, str(error),  # type: ignore[union-attr]
                "raise it, or take the cosine schedule")  # fmt: skip
    _check_model(recipe.model, along, path)
    check_sampling(recipe.model, recipe.sample, recipe.bound, path, latent=recipe.latents is not None)


def _check_around(recipe: Recipe, path: Path | None) -> None:
    """What the model is wrapped in: a codec, a smaller image."""
    model, told = recipe.model, recipe.upsampling
    for section in ("latents", "upsampling"):
        if getattr(recipe, section) and not isinstance(model, sections.Gaussian):
            refuse(path, section, None, f"is for denoising methods, and {model.method} is none", "remove it")
    if told and recipe.latents:
        refuse(path, "upsampling", None, "enlarges images, and the model is one of latents", "remove one of the two")
    if told and isinstance(model, sections.CLD | sections.VDM | sections.EDM2 | sections.Guided | sections.CLIPGuided):
        refuse(
            path, "model.method", model.method, "has a network that cannot be told a smaller image", "take ddpm or edm"
        )
    if told and isinstance(model.network, sections.DiT):  # type: ignore[union-attr]
        refuse(path, "model.network.kind", "dit", "cannot be told a smaller image", "take unet")
    if told and told.augmentation != "noise" and told.level:
        refuse(path, "upsampling.level", told.level, f"means nothing to augmentation {told.augmentation}", "remove it")
    if told and told.level > told.largest:
        refuse(
            path,
            "upsampling.level",
            told.level,
            f"is above the largest = {told.largest} that training sees",
            "lower it",
        )
    if recipe.latents and isinstance(
        model, sections.Guided | sections.CLIPGuided | sections.CLD | sections.ImprovedDDPM
    ):
        refuse(path, "model.method", model.method, "is for images, not for latents", "take ddpm, edm or rectified")


def _check_model(model: sections.Gaussian, along: Schedule | None, path: Path | None) -> None:
    prediction = getattr(model, "prediction", None)
    if along is not None and prediction and not has_signal(along) and needs_signal(PREDICTIONS[prediction]):
        refuse(path, "model.prediction", prediction,
                f"{model.method} has no signal left at t = 1, where this prediction says nothing of the data",
                "take flow, velocity or data")  # fmt: skip
    if getattr(model, "times", None) == "loss_aware" and not isinstance(along, Tabulated):
        refuse(path, "model.times", "loss_aware", "keeps a history for every step of a chain, and time is continuous here",
                "take uniform_log_snr or stratified, or the method improved_ddpm")  # fmt: skip
    _check_parts(model, path)
    places = ((model, "model"), (getattr(model, "schedule", None), "model.schedule"))
    for section, prefix in places:
        for low, high in ENDS:
            if hasattr(section, low) and getattr(section, low) >= getattr(section, high):
                refuse(path, f"{prefix}.{low}", getattr(section, low), f"is not below {high} = {getattr(section, high)}",
                        "lower it")  # fmt: skip
    if (
        isinstance(model, sections.Guided)
        and model.condition_dropout != sections.Guided(method="guided").condition_dropout
    ):
        refuse(path, "model.condition_dropout", model.condition_dropout, "guided has a denoiser that sees no class at all",
                "remove it")  # fmt: skip
    if not is_ladder(model) and _most_noise(model, along) < NOISE_ALONE:  # Langevin dynamics need no start of their own
        for section, prefix in places:
            for name in LENGTHS:
                if hasattr(section, name):
                    refuse(path, f"{prefix}.{name}", getattr(section, name),
                            "leaves the image visible at t = 1, and samples start from noise alone", "raise it")  # fmt: skip


def _check_parts(model: sections.Model, path: Path | None) -> None:
    """Networks that a method cannot have."""
    network = getattr(model, "network", None)
    if isinstance(network, sections.DiT):
        if isinstance(model, sections.EDM2):
            refuse(path, "model.network.kind", network.kind, "edm2 has the magnitude-preserving unet only", "take unet")
        if network.width % network.heads or network.width % 4:
            refuse(path, "model.network.width", network.width, f"is no multiple of 4 and of the {network.heads} heads",
                    "give one")  # fmt: skip
    text = getattr(model, "text", None)
    if isinstance(text, sections.Text) and text.width % text.heads:
        refuse(path, "model.text.width", text.width, f"is no multiple of its {text.heads} heads", "give one")
    if text and isinstance(model, sections.EDM2 | sections.Guided):
        refuse(path, "model.condition", "caption", f"{model.method} knows classes only", "take ddpm, edm or vdm")


def _most_noise(model: sections.Gaussian, along: Schedule | None) -> float:
    """sigma / alpha at t = 1."""
    if isinstance(model, sections.VDM):
        return math.exp(model.gamma_max / 2)
    if isinstance(model, sections.CLD):
        angle = model.beta / math.sqrt(model.mass)
        return math.exp(angle) / (1 + angle)
    assert along is not None
    end = along(torch.ones((), dtype=torch.float64))
    return float(end.sigma / end.alpha)
