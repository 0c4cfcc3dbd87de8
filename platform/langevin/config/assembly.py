"""From what a checkpoint says of its model, plain JSON, to the model: methods and the wrappers around them, parts in parts."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, NoReturn

from torch import nn

from langevin.config import model as sections
from langevin.config.checks import check_task
from langevin.config.model import MODEL
from langevin.config.parts import Task
from langevin.config.recipe import Upsampling
from langevin.config.sampling import Bound, Sample
from langevin.config.table import METHODS
from langevin.diffusion.schedules import CosineVP
from langevin.errors import ConfigError
from langevin.methods.captioned import Captioned, captioned
from langevin.methods.cascade import Cascade
from langevin.methods.latent import Latent
from langevin.methods.super_resolution import (
    Augmentation,
    BlurAugmentation,
    NoAugmentation,
    NoiseAugmentation,
    SuperResolution,
    nothing,
)
from langevin.networks.upsampler import enlarged

CENTRES = {"image": nothing, "residual": enlarged}  # what a stage's images are differences from


def assembled(said: dict[str, Any], sample: Sample | None = None, bound: Bound | None = None) -> nn.Module:
    """The model with fresh weights. said: its description (config/load.py); sample, bound: in place of its own.

    KeyError, TypeError or ValidationError where the description is none; ConfigError where the parts do not fit.
    """
    model = MODEL.validate_json(json.dumps(said["model"]))
    if isinstance(model, sections.Cascade):
        if len({bool(part["model"].get("text")) for part in said["parts"]}) > 1:
            raise ConfigError("are told different things: some read captions and some are told classes",
                              field="model.stages", value=list(model.stages), mend="take models of one condition")  # fmt: skip
        levels = (sample or _read(Sample, said["sample"])).levels or (0.0,) * len(model.stages)
        _check_stages(model, said["parts"], levels)
        base, *stages = (assembled(part) for part in said["parts"])
        told: list[Any] = [stage.inner if isinstance(stage, Captioned) else stage for stage in stages]
        return Cascade(base, told, levels)
    sample = sample or _read(Sample, said["sample"])
    bound = bound or _read(Bound, said["bound"])
    codec: Any = assembled(said["codec"]).codec if "codec" in said else None
    upsampling = _read(Upsampling, said["upsampling"]) if "upsampling" in said else None
    task = task_of(said)
    if codec is not None:
        task = replace(task, image_shape=codec.latent_shape, levels=0)
    check_task(model, sample, task)
    module: Any = METHODS[model.method](model, sample, bound, task)
    if upsampling:
        size = task.image_shape[1]
        if upsampling.lower >= size or size % upsampling.lower:
            raise ConfigError(f"is no smaller divisor of the images' {size} pixels", field="upsampling.lower",
                              value=upsampling.lower, mend="give one")  # fmt: skip
        module = SuperResolution(
            module, upsampling.lower, size, augmentation(upsampling), upsampling.level, CENTRES[upsampling.target]
        )
    if codec is not None:
        module = Latent(codec, module)
    return captioned(module) if getattr(model, "text", None) else module


def _check_stages(model: sections.Cascade, parts: list[dict[str, Any]], levels: tuple[float, ...]) -> None:
    """ConfigError where the parts do not follow one another, or a stage was not trained at the level that it is to be told."""

    def refuse(problem: str, field: str, value: Any, mend: str) -> NoReturn:
        raise ConfigError(problem, field=field, value=value, mend=mend)

    base, *stages = parts
    if "upsampling" in base:
        refuse("enlarges images, and a cascade begins with a model that needs none", "model.base", model.base,
               "take the stages' base")  # fmt: skip
    side = base["data"]["shape"][1]
    for number, (name, part, level) in enumerate(zip(model.stages, stages, levels, strict=True)):
        if "upsampling" not in part:
            refuse("enlarges no images", f"model.stages.{number}", name, "name recipes with the section upsampling")
        told = _read(Upsampling, part["upsampling"])
        if told.lower != side:
            refuse(f"enlarges images of {told.lower} pixels and is given {side}", f"model.stages.{number}", name,
                   "name stages that follow one another")  # fmt: skip
        if level > (told.largest if told.augmentation == "noise" else 0):
            least = f"up to {told.largest}" if told.augmentation == "noise" else f"without noise ({told.augmentation})"
            refuse(f"{name} was trained {least}", "sample.levels", list(levels), "lower it")
        side = part["data"]["shape"][1]


def task_of(said: dict[str, Any]) -> Task:
    """What the data of a described model ask of it."""
    data = said["data"]
    captions, told = "captions" in data and bool(data["captions"]), "upsampling" in said
    return Task(tuple(data["shape"]), len(data["classes"]), data["levels"], captions, told)


def readers(said: dict[str, Any]) -> list[dict[str, Any]]:
    """The encoders of texts of a described model, as it says them; none for a model that is told classes."""
    parts = said.get("parts", [said])  # a cascade is asked as its base is
    found = [part["model"].get("text") for part in parts]
    return [text for text in found if text] if found[0] else []


def augmentation(section: Upsampling) -> Augmentation:
    """How a stage's smaller images are made worse."""
    if section.augmentation == "noise":
        return NoiseAugmentation(CosineVP(), section.largest)
    return BlurAugmentation() if section.augmentation == "blur" else NoAugmentation()


def _read(section: type[Any], plain: dict[str, Any]) -> Any:
    return section.model_validate_json(json.dumps(plain))
