"""The parts of a page that show a model's latents: what comes back of images, what lies between them, and beside them."""

from __future__ import annotations

from typing import Any

import torch

from langevin.methods.autoencoder import Blocked
from langevin.methods.vae import Plane
from langevin.protocols import Interpolates, Reconstructs, Samples, condition_of
from langevin.randomness import Keys
from langevin.reporting.mosaics import paired_grid, sheet
from langevin.reporting.page import Picture
from langevin.stages.subject import Part, Subject
from langevin.stages.summary import number

PAIRS = 24
SIDE = 12  # of the plane's grid
BETWEEN = 12  # pairs of images, and images on the way from one to the other, both ends among them
SEED = 4


def returned(subject: Subject) -> Part | None:
    """Test images above what the model makes of them again."""
    if not isinstance(subject.model, Reconstructs):
        return None
    images = subject.various(PAIRS).images
    with torch.no_grad():
        again = subject.model.reconstruct(images)
    rows = {"image": subject.bytes_of(images), "comes back": subject.bytes_of(again)}
    figures = subject.ours.figures
    found = [f"{name} {number(figures[key].value)}{unit}" for key, name, unit in
             (("rfid", "rFID", ""), ("psnr", "PSNR", " dB")) if key in figures]  # fmt: skip
    measured = f" Of all of them: {', '.join(found)}." if found else ""
    picture = Picture.drawn(
        "Test images, and what their latents decode to",
        "Rows of test images, each image above what the model decodes of its latents",
        lambda theme: paired_grid(rows, theme=theme),
        f"Not selected; below each image what its mean latents decode to.{measured}",
        wide=True,
    )
    return Part("Images and what comes back", "", {"reconstructions": picture})


def between(subject: Subject) -> Part | None:
    """A plane of latents, and the ways between test images."""
    if not isinstance(subject.model, Interpolates):
        return None
    model: Any = subject.model
    with torch.no_grad():
        plane = Plane.principal(Blocked(model.codec).encode(subject.test.images, None))
    grid = [row.numpy() for row in model.latent_grid(plane, SIDE)]
    ends = subject.various(2 * BETWEEN).images
    ways = [row.numpy() for row in model.interpolation(ends[:BETWEEN], ends[BETWEEN:], BETWEEN)]
    pictures = {
        "latents": Picture.drawn(
            "A plane of latents",
            "A grid of images decoded from a plane of latents, alike where they are neighbours",
            lambda theme: sheet(grid, theme),
            "Through the mean of the test images' latents, along the two directions in which they differ most, at the "
            "normal distribution's quantiles; of no class.",
        ),
        "interpolations": Picture.drawn(
            "Between test images",
            "Each row leads from one test image on the left to another on the right",
            lambda theme: sheet(ways, theme),
            "Along the arc between the mean latents of two test images, which stand, decoded, at the ends of a row; of no "
            "class.",
        ),
    }  # fmt: skip
    return Part("Latents", "", pictures)


def enlarged(subject: Subject) -> Part | None:
    """Of a model that is told small images, which no batch job can ask: test images made smaller, and what it makes of them."""
    model: Any = subject.model
    if subject.request is not None or not isinstance(model, Samples):
        return None
    batch = subject.various(PAIRS)
    cond = condition_of(model, batch)
    with torch.no_grad():
        drawn = model.sample(Keys.range(SEED, 0, len(batch)), cond)
    factor = drawn.shape[-1] // cond.image.shape[-1]
    given = cond.image.repeat_interleave(factor, -2).repeat_interleave(factor, -1)
    rows = {"given": subject.bytes_of(given), "drawn": subject.bytes_of(drawn)}
    picture = Picture.drawn(
        "Test images made smaller, and enlarged again",
        "Rows of small images, each above the larger one that the model draws of it",
        lambda theme: paired_grid(rows, theme=theme),
        f"{cond.image.shape[-1]} pixels a side to {drawn.shape[-1]}. Not selected.",
        wide=True,
    )
    return Part("Enlarged", "", {"enlarged": picture})
