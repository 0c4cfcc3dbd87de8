"""Images and classes that a model cannot be made for."""

from __future__ import annotations

import math

from langevin.config import model as sections
from langevin.config.checks.refusal import check_rungs, refuse
from langevin.config.parts import Task
from langevin.config.sampling import Sample
from langevin.diffusion.schedules import GeometricVE
from langevin.methods.ncsn import improved_techniques
from langevin.networks.perceptual import LEAST_SIDE

NETWORKS = ("network", "classifier", "image")


def check_task(model: sections.Model, sample: Sample, task: Task) -> None:
    """ConfigError where images of this shape do not pass through the networks, or classes are needed and there are none."""
    for name in NETWORKS:
        section = getattr(model, name, None)
        if isinstance(section, sections.Codec):
            if any(side % section.patch for side in task.image_shape[1:]):
                refuse(None, f"model.{name}.patch", section.patch, "does not divide images of "
                        f"{task.image_shape[1]} x {task.image_shape[2]} pixels", "give a divisor")  # fmt: skip
            _check_halvings(section.multipliers, f"model.{name}", task, section.patch)
            looks, (colours, *sides) = getattr(model, "perceptual", None), task.image_shape
            if looks and (min(sides) < LEAST_SIDE or colours not in (1, 3)):
                refuse(None, "model.perceptual", looks, f"looks at grey or colour images of {LEAST_SIDE} pixels a side or more",
                        "remove it")  # fmt: skip
        elif section:
            _check_network(section, f"model.{name}", task)
    if isinstance(model, sections.Guided) and task.classes < 2:
        refuse(None, "model.method", "guided", f"trains a classifier, and the data have {task.classes} classes",
                "take improved_ddpm")  # fmt: skip
    if task.classes == 0 and sample.guidance not in (0, 1) and not getattr(model, "text", None):
        refuse(None, "sample.guidance", sample.guidance, "leads to a class, and the data have no classes", "remove it")
    if getattr(model, "text", None) and not task.captions:
        refuse(None, "model.condition", "caption", "is what images are to be drawn for, and the data have none",
                "take class")  # fmt: skip
    if isinstance(model, sections.NCSNv2) and sample.sampler == "annealed_langevin":
        along = GeometricVE(model.sigma_min, model.sigma_max)
        levels, _ = improved_techniques(along, math.prod(task.image_shape), sample.corrector_steps, model.levels)
        check_rungs(sample.steps, levels, None)


def _check_network(network: sections.UNet | sections.DiT, field: str, task: Task) -> None:
    _, height, width = task.image_shape
    if isinstance(network, sections.DiT):
        if height % network.patch or width % network.patch:
            refuse(None, f"{field}.patch", network.patch, f"does not divide images of {height} x {width} pixels",
                    "give a divisor")  # fmt: skip
        return
    _check_halvings(network.multipliers, field, task)
    sides = [height >> level for level in range(len(network.multipliers))]
    for side in network.attention:
        if side not in sides:
            refuse(None, f"{field}.attention", side, "is no resolution of the network",
                    f"choose from {', '.join(map(str, sides))}")  # fmt: skip


def _check_halvings(multipliers: tuple[int, ...], field: str, task: Task, patch: int = 1) -> None:
    height, width = (side // patch for side in task.image_shape[1:])
    halvings = len(multipliers) - 1
    if height % 2**halvings or width % 2**halvings:
        refuse(None, f"{field}.multipliers", multipliers,
                f"halves images of {height} x {width} pixels {halvings} times", "give fewer")  # fmt: skip
