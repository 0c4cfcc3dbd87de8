"""Which noise levels the loss comes from: the objective of a trained model, looked at where training looks, by level."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from langevin.config.paths import within_home
from langevin.data.reader import read_split
from langevin.errors import DataError
from langevin.evaluation.intervals import mean
from langevin.protocols import Batch, Trainable
from langevin.randomness import Keys
from langevin.reporting.axes import Scale
from langevin.reporting.figures import curve
from langevin.reporting.page import Picture
from langevin.stages.subject import Subject

LOOKS = 1024  # at images, each at a level and with a noise of its own
IMAGES = 256  # of a split at most
BATCH = 128
BINS = 16  # of as many looks each
SEED = 5
WHERE = "time"  # the loss's term that tells the level, in [0, 1], of models that have levels
LOW = 0.1  # times of a median below it are shown by factors
SPLITS = {"validation": "validation images", "train": "training images"}


class Looks(NamedTuple):
    """The level at which each look was taken, and the loss there: (N,) float64 both."""

    time: Tensor
    loss: Tensor


def by_level(subject: Subject) -> Picture | None:
    """Of validation and of training images; None of a model whose loss has no levels, or where its data are gone."""
    if not isinstance(subject.model, Trainable):
        return None
    found = {said: _looks(subject.model, images) for said, images in _images(subject).items()}
    looks = {said: taken for said, taken in found.items() if taken is not None}
    if not looks:
        return None
    series: dict[str, Any] = {}
    band: dict[str, Any] = {}
    for said, taken in looks.items():
        times, figures = _binned(taken)
        series[said] = (times, [one.value for one in figures])
        band[said] = ([one.low for one in figures], [one.high for one in figures])
    middle = float(next(iter(looks.values())).time.median())
    factors = all(low > 0 for ends in band.values() for low in ends[0])
    return Picture.drawn(
        "Loss by noise level",
        "The training objective against the noise level, from data on the left to pure noise on the right",
        lambda theme: curve(series, "noise level t (0: data, 1: noise)", "loss", factors, None, band,
                            Scale(log=middle < LOW, plain=True), theme=theme),
        f"{LOOKS:,} looks at each where training looks, {BINS} bins of as many each, so each is as large a part of the loss "
        "as it is high. Bands: 95 % intervals.",
    )  # fmt: skip


def _images(subject: Subject) -> dict[str, Batch]:
    root = within_home(subject.recipe.training_root)
    found = {}
    for split, said in SPLITS.items():
        try:
            found[said] = read_split(root, split)[:IMAGES]
        except DataError:  # the page is of what is left
            continue
    return {said: images for said, images in found.items() if len(images)}


@torch.no_grad()
def _looks(model: Trainable, images: Batch) -> Looks | None:
    """None of a loss that tells of no levels. The noise is keyed by the look's number."""
    times, losses, device = [], [], images.images.device
    for first in range(0, LOOKS, BATCH):
        numbers = torch.arange(first, min(first + BATCH, LOOKS), device=device)
        found = model.loss(images[numbers % len(images)], Keys(SEED, numbers))
        if WHERE not in found.terms:
            return None
        times.append(found.terms[WHERE].double())
        losses.append(found.terms.get("denoising", found.total).double())  # what is trained beside it left out
    return Looks(torch.cat(times), torch.cat(losses))


def _binned(looks: Looks) -> tuple[list[float], list[Any]]:
    """(mean time, mean loss with its interval) of bins of as many looks each, by rising time. A chain's few times are a bin
    each. What is not finite is left out.
    """
    finite = torch.isfinite(looks.loss)
    order = looks.time[finite].argsort(stable=True)
    time, loss = looks.time[finite][order], looks.loss[finite][order]
    distinct, counts = time.unique_consecutive(return_counts=True)
    sizes = counts.tolist() if len(distinct) <= BINS else [len(time) // BINS] * BINS
    sizes[-1] += len(time) - sum(sizes)
    parts = [(t, values) for t, values in zip(time.split(sizes), loss.split(sizes), strict=True) if len(t)]
    return [float(t.mean()) for t, _ in parts], [mean(values) for _, values in parts]
