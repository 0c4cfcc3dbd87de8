"""Pictures of a few coloured shapes, with captions: small enough to learn on a CPU, and exact in what they show.

Some pairs of a colour and a shape are shown in the split ``heldout`` alone: a model that draws them there has learned
to put colours and shapes together, and has not remembered pictures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from langevin.data.sources.source import Source, SourceImage, SourceInfo
from langevin.errors import ConfigError

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 160, 50),
    "blue": (40, 70, 230),
    "yellow": (250, 220, 40),
    "purple": (150, 40, 190),
    "orange": (250, 130, 20),
}
BACKGROUNDS = {"grey": (128, 128, 128), "white": (255, 255, 255), "black": (0, 0, 0)}
RADII = {"small": 0.125, "large": 0.2}  # half of the box around a shape; the image's side is 1
HELD_OUT = (("red", "square"), ("blue", "triangle"), ("yellow", "circle"), ("green", "cross"))
HELDOUT_EVERY = 10  # of ten images in a row one is of the split "heldout"

_ARM, _HEIGHT = 0.36, 3**0.5 / 2  # half widths of a cross's bars, half height of a triangle
_MARGIN, _GAP = 0.02, 0.06  # around the image, and between the boxes of two shapes
_TRIES = 64  # placements of a scene's objects, of which the first without overlap is taken


def _circle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sqrt(x * x + y * y) - 1  # not hypot, which differs between machines in its last digit


def _square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(abs(x), abs(y)) - 0.88


def _triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(y - _HEIGHT, (3**0.5 * abs(x) - y - _HEIGHT) / 2)


def _cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    long, short = np.maximum(abs(x), abs(y)), np.minimum(abs(x), abs(y))
    return np.maximum(long - 1, short - _ARM)


# Signed distances to the outline in units of the radius, exact beside its straight parts: x to the right, y down
SHAPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "cross": _cross,
}
PAIRS = tuple(product(COLOURS, SHAPES))
SEEN = tuple(pair for pair in PAIRS if pair not in HELD_OUT)


@dataclass(frozen=True)
class Thing:
    """A shape in a picture. x, y: the middle of its box, in sides of the image from its left and upper edge."""

    shape: str
    colour: str
    size: str
    x: float
    y: float

    def __str__(self) -> str:
        return f"a {self.size} {self.colour} {self.shape}"


@dataclass(frozen=True)
class Scene:
    """What a picture shows. objects: in the order in which its caption names them."""

    background: str
    objects: tuple[Thing, ...]

    @classmethod
    def of(cls, attributes: Mapping[str, Any]) -> Scene:
        return cls(attributes["background"], tuple(Thing(**thing) for thing in attributes["objects"]))

    @property
    def attributes(self) -> dict[str, Any]:
        """The scene as JSON holds it; ``Scene.of`` reads it back."""
        return {"background": self.background, "objects": [dict(vars(thing)) for thing in self.objects]}

    @property
    def caption(self) -> str:
        """ "a small red circle left of a large blue square on grey": the first object, as the others lie to it."""
        first, *others = self.objects
        relations = " and ".join(f"{relation(first, other)} {other}" for other in others)
        return " ".join(part for part in (str(first), relations, f"on {self.background}") if part)


class Shapes(Source):
    """count scenes of (3, size, size), 256 levels, keys "shapes-0000000" ..., classes "red circle" ... of the first object.

    Scene i depends on (seed, i) alone: more of them, or another size, change none. 60 % show one object, 30 % two and
    10 % three, or ``objects`` at most. Every tenth is of the split "heldout" and shows one of HELD_OUT's pairs, which no
    other image does.
    ConfigError: size, count or objects out of range.
    """

    def __init__(self, size: int, count: int, seed: int = 0, objects: int = 3) -> None:
        if not 16 <= size <= 256:
            raise ConfigError("is no size in pixels", field="size", value=size, mend="choose one of 16 .. 256")
        if count < 1:
            raise ConfigError("is no number of images", field="count", value=count, mend="choose 1 or more")
        if not 1 <= objects <= 3:
            raise ConfigError("is no number of objects", field="objects", value=objects, mend="choose one of 1 .. 3")
        classes = tuple(f"{colour} {shape}" for colour, shape in PAIRS)
        self.info = SourceInfo("shapes", (3, size, size), levels=256, classes=classes, captions=True)
        self.keys = tuple(f"shapes-{index:07d}" for index in range(count))
        self.seed, self.objects = seed, objects

    def read(self, index: int) -> SourceImage:
        scene, size = self.scene(index), self.info.shape[1]
        first = scene.objects[0]
        label = PAIRS.index((first.colour, first.shape))
        return SourceImage(self.keys[index], draw_scene(scene, size), label, scene.caption, scene.attributes)

    def split_of(self, index: int) -> str | None:
        return "heldout" if index % HELDOUT_EVERY == HELDOUT_EVERY - 1 else None

    def scene(self, index: int) -> Scene:
        return _compose(_stream(self.seed, index), self.split_of(index) is not None, self.objects)


def draw_scene(scene: Scene, size: int) -> np.ndarray:
    """uint8 (size, size, 3), edges smoothed."""
    canvas = np.full((size, size, 3), BACKGROUNDS[scene.background], dtype=np.float32)
    for thing in scene.objects:
        cover = coverage(thing.shape, RADII[thing.size], thing.x, thing.y, size)[..., None]
        canvas += cover * (np.array(COLOURS[thing.colour], dtype=np.float32) - canvas)
    return np.rint(canvas).astype(np.uint8)


def coverage(shape: str, radius: float, x: float, y: float, size: int, edge: float = 1.0) -> np.ndarray:
    """(size, size) float32: how much of each pixel the shape covers, 1/2 - distance / edge cut to [0, 1].

    edge: over how many pixels the outline is smoothed; 1 is what a pixel's own area does.
    """
    middles = (np.arange(size, dtype=np.float32) + 0.5) / size
    distance = SHAPES[shape]((middles[None, :] - x) / radius, (middles[:, None] - y) / radius)
    return np.clip(0.5 - distance * (radius * size / edge), 0, 1)


def relation(one: Thing, other: Thing) -> str:
    """Where one lies from the other, along the axis on which they are further apart."""
    across, down = one.x - other.x, one.y - other.y
    if abs(across) >= abs(down):
        return "left of" if across < 0 else "right of"
    return "above" if down < 0 else "below"


def _stream(seed: int, index: int) -> np.random.Philox:
    """The scene's own numbers, always the same."""
    name = hashlib.blake2b(f"shapes/{seed}/{index}".encode(), digest_size=16).digest()
    return np.random.Philox(key=int.from_bytes(name, "little"))


def _uniforms(stream: np.random.Philox, count: int) -> np.ndarray:
    """(count,) float64 in [0, 1), from the raw words, which NumPy keeps for ever."""
    return (stream.random_raw(count) >> np.uint64(11)) * 2.0**-53


def _compose(stream: np.random.Philox, heldout: bool, most: int) -> Scene:
    uniforms = iter(_uniforms(stream, 9).tolist())
    chance = next(uniforms)
    count = min(1 + (chance >= 0.6) + (chance >= 0.9), most)
    background = _pick(tuple(BACKGROUNDS), next(uniforms))
    novel = int(next(uniforms) * count) if heldout else None
    pairs = [_pick(HELD_OUT if place == novel else SEEN, next(uniforms)) for place in range(count)]
    sizes = [_pick(tuple(RADII), next(uniforms)) for _ in range(count)]
    things = [Thing(shape, colour, size, 0, 0) for (colour, shape), size in zip(pairs, sizes, strict=True)]
    places = _uniforms(stream, 2 * _TRIES * count).reshape(_TRIES, count, 2)
    # what finds no room in its own size does in the small one
    for candidate in (things, [replace(thing, size="small") for thing in things]):
        placed = _placed(candidate, places)
        if placed is not None:
            return Scene(background, placed)
    raise AssertionError("three small shapes found no room")


def _placed(things: Sequence[Thing], places: np.ndarray) -> tuple[Thing, ...] | None:
    """The things at the first of the placements, (tries, n, 2) in [0, 1), at which their boxes keep apart."""
    radii = np.array([RADII[thing.size] for thing in things])
    border = radii[:, None] + _MARGIN
    centres = np.round(border + places * (1 - 2 * border), 4)
    apart = abs(centres[:, :, None] - centres[:, None]).max(axis=-1) >= radii[:, None] + radii + _GAP
    fits = (apart | np.eye(len(things), dtype=bool)).all(axis=(1, 2))
    if not fits.any():
        return None
    chosen = centres[int(np.argmax(fits))].tolist()
    return tuple(replace(thing, x=x, y=y) for thing, (x, y) in zip(things, chosen, strict=True))


def _pick(options: Sequence[Any], uniform: float) -> Any:
    return options[int(uniform * len(options))]
