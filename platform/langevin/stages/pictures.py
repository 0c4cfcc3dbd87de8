"""The parts of a page that most models have: what they drew, how, and the curves of their training."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from langevin.generation.writer import read_images
from langevin.protocols import Cond, Samples, condition_of
from langevin.randomness import Keys
from langevin.reporting.figures import curve
from langevin.reporting.mosaics import caption_grid, class_grid, trajectory
from langevin.reporting.page import Picture
from langevin.stages.levels import by_level
from langevin.stages.subject import Part, Subject
from langevin.stages.summary import sampled_by

PER_CLASS = 12
CLASSES = 24  # rows of them
PER_PAGE = 16  # images under their prompts
STATES = 9  # columns of the way from noise to image
WAYS = 10  # rows of it, for as many classes
TEXTS = 6  # where there are none
TRAJECTORY_SEED = 3


def samples(subject: Subject) -> Part | None:
    """Of the batch job: a row a class, or images under their prompts."""
    request, found = subject.request, read_images(subject.outputs.generated) if subject.generated else None
    if found is None or request is None:
        return None
    if found.prompts is not None:
        images, prompts = found.images[:PER_PAGE], found.prompts[:PER_PAGE]
        picture = Picture.drawn(
            "Samples by prompt",
            "A grid of generated images, each under the text that it was asked for by",
            lambda theme: caption_grid(images, prompts, theme=theme),
            f"The first {len(images)}, not selected.",
            wide=True,
        )
    else:
        assert found.labels is not None
        labels, classes = found.labels, request.classes[:CLASSES]
        which = "class" if len(classes) == len(request.classes) else f"of the first {CLASSES} classes"
        picture = Picture.drawn(
            "Samples by class",
            f"A grid of generated images, one row for each of the classes {', '.join(classes)}",
            lambda theme: class_grid(found.images, labels, classes, PER_CLASS, theme),
            f"The first {PER_CLASS} of each {which}, not selected.",
            wide=True,
        )
    return Part("Samples", f"{request.n:,} images generated from {subject.version.uri}.", {"samples": picture})


def way(subject: Subject) -> Part | None:
    """From noise to an image of each class, or of the first prompts, or of small test images; of more than one step."""
    model, request = subject.model, subject.request
    if not isinstance(model, Samples):
        return None
    if request is None:
        few = subject.various(TEXTS)
        count, cond, rows = len(few), condition_of(model, few), "given test images that were made smaller"
    else:
        told = request.classes[:WAYS] if request.prompts is None else request.prompts[:TEXTS]
        count, cond = len(told), request.asked.cond(0, len(told))
        rows = "one sample of each class" if told == request.classes else f"from above: {'; '.join(told)}"
    picture = from_noise(model, cond, count, f"Sampled by {sampled_by(subject.recipe.sample.plain())}; {rows}.")
    return Part("From noise to image", "", {"trajectory": picture}) if picture else None


def from_noise(model: Samples, cond: Cond, count: int, caption: str) -> Picture | None:
    """The way of ``count`` samples, asked for by cond; None of a model whose way has one step."""
    with torch.no_grad():
        states = [state.numpy() for state in model.walk(Keys.range(TRAJECTORY_SEED, 0, count), cond)]
    if len(states) < 2:
        return None
    chosen = np.linspace(0, len(states) - 1, min(STATES, len(states))).round().astype(int)
    shown: list[NDArray[np.floating]] = [states[index] for index in chosen]
    captions = [f"step {index}" for index in chosen]
    return Picture.drawn(
        "From noise to image",
        "Each row is one sample, from pure noise on the left to the finished image on the right",
        lambda theme: trajectory(shown, captions, theme),
        caption,
        wide=True,
    )


def training(subject: Subject) -> Part | None:
    """The loss and the kept checkpoints' FID; none of a model that was put together of trained ones."""
    table = _columns(subject.outputs.history)
    if not table:
        return None
    levels = by_level(subject)
    return Part("Training", "", {"loss": _loss(table), "fid": _fid(subject), **({"levels": levels} if levels else {})})


def _loss(table: dict[str, list[str]]) -> Picture:
    series = {"training": _points(table, "loss"), "validation": _points(table, "validation_loss")}
    factors = all(value > 0 for _, values in series.values() for value in values)
    return Picture.drawn(
        "Loss over images seen",
        "Training and validation loss against images seen",
        lambda theme: curve(series, "images seen", "loss", logy=factors, theme=theme),
        "The objective, mean of a batch. Validation: averaged weights, the same noise at every reading.",
    )


def _fid(subject: Subject) -> Picture:
    """Of a codec, the FID of what it makes of test images again."""
    figures, section = subject.ours.figures, subject.recipe.evaluate
    count, points = min(section.curve_images, section.images), _points(_columns(subject.outputs.fid_curve), "fid")
    drawn = "fid_floor" in figures
    name = f"FID at {count} samples" if drawn else f"rFID at {count} test images"
    floor = {"floor (train against test)": figures["fid_floor"].value} if drawn else {}
    whole = subject.ours.spec.generated_n if drawn else subject.ours.spec.reference_n
    return Picture.drawn(
        f"{name.split()[0]} over images seen",
        f"{name.split()[0]} of the kept checkpoints against images seen" + ", with the floor as a dashed line" * drawn,
        lambda theme: curve({name: points}, "images seen", name if not floor else "FID", hline=floor, theme=theme),
        f"Fewer images read higher: the table's is of {whole:,}.",
    )


def _columns(path: Path) -> dict[str, list[str]]:
    with path.open(newline="") as file:
        rows_of = list(csv.DictReader(file))
    return {name: [row[name] for row in rows_of] for name in (rows_of[0] if rows_of else ())}


def _points(table: dict[str, list[str]], name: str) -> tuple[list[float], list[float]]:
    pairs = [(float(x), float(y)) for x, y in zip(table.get("images", []), table.get(name, []), strict=True) if y]
    return [x for x, _ in pairs], [y for _, y in pairs]
