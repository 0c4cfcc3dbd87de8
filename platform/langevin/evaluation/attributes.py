"""Does a picture of shapes show what was asked for? Its scene is read back by plain geometry, without a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from scipy import ndimage
from torch import Tensor

from langevin.data.sources.shapes import BACKGROUNDS, COLOURS, RADII, SHAPES, Scene, Thing, coverage
from langevin.evaluation.intervals import Figure, share

SMALLEST = 0.011  # of the image's area: 40 % of the smallest shape; what is less is a speck and no object
CENTROID = {"triangle": 3**0.5 / 6}  # how far below the middle of its box a shape's centroid lies, in radii; else 0
EDGES = (1.0, 2.0)  # pixels over which a template's outline is smoothed: what a model draws may be blurred
WEIGHTS = {"shape": 2, "colour": 2, "size": 1}  # of what an asked and a found object have in common


def parse(image: np.ndarray | Tensor) -> Scene:
    """The scene that an image shows, (3, H, H) uint8; objects from left to right.

    A pixel is b + a (k - b) with the background b, the palette's colour k that explains it best, and its cover a in
    [0, 1]. Objects are the connected regions of one colour with a > 1/2; shape and size are those of the template that
    overlaps most with the cover around the region.
    """
    pixels = np.moveaxis(np.asarray(image), 0, -1).astype(np.float32)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.shape[0] != pixels.shape[1]:
        raise ValueError(f"an image of shape {np.asarray(image).shape} is no (3, H, H)")
    ground = _ground(pixels)
    covers, best = _covers(pixels, ground)
    solid = np.take_along_axis(covers, best[None], 0)[0] > 0.5
    things = [
        _thing(colour, cover)
        for number, colour in enumerate(COLOURS)
        for cover in _regions(covers[number], best == number, solid)
    ]
    return Scene(_background(ground), tuple(sorted(things, key=lambda thing: thing.x)))


def caption_accuracy(images: np.ndarray | Tensor, attributes: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
    """How much of what was asked for (N scenes as JSON) the images, (N, 3, H, H) uint8, show.

    count, background: shares of the images; shape, colour, size: of the objects asked for, each set against at most one
    object found, the pairs with most in common first; both: right in shape and colour at once.
    """
    if len(images) != len(attributes) or not len(images):
        raise ValueError(f"{len(images)} images cannot show {len(attributes)} scenes")
    asked = [Scene.of(wanted) for wanted in attributes]
    found = [parse(image) for image in images]
    pairs = [pair for one, other in zip(asked, found, strict=True) for pair in match(one.objects, other.objects)]
    right = {name: [_agree(one, other, name) for one, other in pairs] for name in WEIGHTS}
    right["both"] = [shape and colour for shape, colour in zip(right["shape"], right["colour"], strict=True)]
    right["count"] = [len(one.objects) == len(other.objects) for one, other in zip(asked, found, strict=True)]
    right["background"] = [one.background == other.background for one, other in zip(asked, found, strict=True)]
    return {name: share(values) for name, values in right.items()}


def match(asked: Sequence[Thing], found: Sequence[Thing]) -> list[tuple[Thing, Thing | None]]:
    """Each asked object with the found one set against it, pairs that have most in common first; None: nothing left."""
    common = {
        (i, j): sum(weight * _agree(one, other, name) for name, weight in WEIGHTS.items())
        for (i, one), (j, other) in product(enumerate(asked), enumerate(found))
    }
    partner: dict[int, int] = {}
    for i, j in sorted(common, key=lambda pair: -common[pair]):
        if i not in partner and j not in partner.values():
            partner[i] = j
    return [(one, found[partner[i]] if i in partner else None) for i, one in enumerate(asked)]


def _agree(one: Thing, other: Thing | None, name: str) -> bool:
    return other is not None and getattr(one, name) == getattr(other, name)


def _ground(pixels: np.ndarray) -> np.ndarray:
    """(3,) the colour of the background: the median along the image's edge, which objects hardly touch."""
    edge = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    return np.median(edge, axis=0)


def _background(ground: np.ndarray) -> str:
    return min(BACKGROUNDS, key=lambda name: float(np.square(ground - BACKGROUNDS[name]).sum()))


def _covers(pixels: np.ndarray, ground: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each colour's cover (K, H, H), and the number (H, H) of the colour that leaves the least of a pixel unexplained."""
    ways = np.array(list(COLOURS.values()), dtype=np.float32) - ground
    off = pixels - ground
    covers = np.moveaxis(np.clip(off @ (ways / np.square(ways).sum(axis=1, keepdims=True)).T, 0, 1), -1, 0)
    left = np.square(off - covers[..., None] * ways[:, None, None]).sum(axis=-1)
    return covers, left.argmin(axis=0)


def _regions(cover: np.ndarray, mine: np.ndarray, solid: np.ndarray) -> Iterator[np.ndarray]:
    """The cover (H, H) of each object of a colour, with its soft edge. mine: pixels of the colour; solid: of any."""
    labels, _ = ndimage.label(mine & solid)
    for number, pixels in enumerate(np.bincount(labels.ravel())):
        if number > 0 and pixels >= SMALLEST * labels.size:
            region = labels == number
            around = ndimage.binary_dilation(region, np.ones((3, 3)), iterations=1 + len(region) // 64)
            yield np.where(region | (around & ~solid), cover, 0)


def _thing(colour: str, cover: np.ndarray) -> Thing:
    """The template of most overlap, sum of minima over sum of maxima, with its centroid on the cover's."""
    size = len(cover)
    y, x = ((place + 0.5) / size for place in ndimage.center_of_mass(cover))
    candidates = [
        Thing(shape, colour, name, float(x), float(y - CENTROID.get(shape, 0) * radius))
        for shape, (name, radius) in product(SHAPES, RADII.items())
    ]

    def overlap(thing: Thing, edge: float) -> float:
        template = coverage(thing.shape, RADII[thing.size], thing.x, thing.y, size, edge)
        return float(np.minimum(template, cover).sum() / np.maximum(template, cover).sum())

    return max(candidates, key=lambda thing: max(overlap(thing, edge) for edge in EDGES))
