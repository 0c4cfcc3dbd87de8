"""The pictures of a model's report: what it drew, how, and the curves of its training."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from langevin.config.recipe import Recipe
from langevin.evaluation.suite import Evaluation
from langevin.generation.plan import Request
from langevin.generation.writer import read_images
from langevin.protocols import Samples
from langevin.randomness import Keys
from langevin.reporting.figures import caption_grid, class_grid, curve, trajectory
from langevin.reporting.page import Picture

PER_CLASS = 12
PER_PAGE = 16  # images under their prompts
STATES = 9  # columns of the way from noise to image
TEXTS = 6  # rows of it, where there are no classes
TRAJECTORY_SEED = 3


def samples(folder: Path, request: Request) -> Picture:
    """Of the batch job: a row a class, or images under their prompts."""
    found = read_images(folder)
    if found.prompts is not None:
        images, prompts = found.images[:PER_PAGE], found.prompts[:PER_PAGE]
        return Picture.drawn(
            "Samples by prompt",
            "A grid of generated images, each under the text that it was asked for by",
            lambda theme: caption_grid(images, prompts, theme=theme),
            f"The first {len(images)}, not selected.",
            wide=True,
        )
    assert found.labels is not None
    labels, classes = found.labels, request.classes
    return Picture.drawn(
        "Samples by class",
        f"A grid of generated images, one row for each of the classes {', '.join(classes)}",
        lambda theme: class_grid(found.images, labels, classes, PER_CLASS, theme),
        f"The first {PER_CLASS} of each class, not selected.",
        wide=True,
    )


def way(model: Samples, recipe: Recipe, request: Request) -> Picture:
    """From noise to an image of each class, or of the first prompts. model: as the recipe samples it."""
    count = len(request.classes) if request.prompts is None else min(TEXTS, len(request.prompts))
    with torch.no_grad():
        keys, cond = Keys.range(TRAJECTORY_SEED, 0, count), request.asked.cond(0, count)
        states = [state.numpy() for state in model.walk(keys, cond)]
    chosen = np.linspace(0, len(states) - 1, min(STATES, len(states))).round().astype(int)
    shown: list[NDArray[np.floating]] = [states[index] for index in chosen]
    captions = [f"step {index}" for index in chosen]
    rows = "one sample of each class"
    if request.prompts is not None:
        rows = f"from above: {'; '.join(request.prompts[:count])}"
    return Picture.drawn(
        "From noise to image",
        "Each row is one sample, from pure noise on the left to the finished image on the right",
        lambda theme: trajectory(shown, captions, theme),
        f"{recipe.sample.sampler}, {recipe.sample.steps} steps, {rows}.",
        wide=True,
    )


def loss(path: Path) -> Picture:
    table = _columns(path)
    series = {"training": _points(table, "loss"), "validation": _points(table, "validation_loss")}
    return Picture.drawn(
        "Loss over images seen",
        "Training and validation loss against images seen",
        lambda theme: curve(series, "images seen", "loss", logy=True, theme=theme),
        "Mean squared error of the noise. Validation: averaged weights, the same noise at every reading.",
    )


def fid(path: Path, ours: Evaluation, count: int) -> Picture:
    series = {f"FID at {count} samples": _points(_columns(path), "fid")}
    floor = {"floor (train against test)": ours.figures["fid_floor"].value}
    return Picture.drawn(
        "FID over images seen",
        "FID of the kept checkpoints against images seen, with the floor as a dashed line",
        lambda theme: curve(series, "images seen", "FID", hline=floor, theme=theme),
        f"Fewer samples read higher: the table's FID is of {ours.spec.generated_n:,}.",
    )


def _columns(path: Path) -> dict[str, list[str]]:
    with path.open(newline="") as file:
        rows_of = list(csv.DictReader(file))
    return {name: [row[name] for row in rows_of] for name in (rows_of[0] if rows_of else ())}


def _points(table: dict[str, list[str]], name: str) -> tuple[list[float], list[float]]:
    pairs = [(float(x), float(y)) for x, y in zip(table.get("images", []), table.get(name, []), strict=True) if y]
    return [x for x, _ in pairs], [y for _, y in pairs]
