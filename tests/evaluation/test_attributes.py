from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from langevin.data.sources.shapes import BACKGROUNDS, COLOURS, RADII, SHAPES, Scene, Shapes, Thing, draw_scene
from langevin.evaluation.attributes import caption_accuracy, match, parse

SCENES = [Shapes(32, 150).scene(index) for index in range(150)]
ASKED = [scene.attributes for scene in SCENES]


def drawn(scenes: list[Scene], size: int) -> np.ndarray:
    return np.stack([np.moveaxis(draw_scene(scene, size), -1, 0) for scene in scenes])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("colour", COLOURS)
def test_every_object_is_read_on_every_background(shape: str, colour: str) -> None:
    for background in BACKGROUNDS:
        for size in RADII:
            scene = Scene(background, (Thing(shape, colour, size, 0.437, 0.561),))
            (found,) = parse(drawn([scene], 32)[0]).objects
            assert replace(found, x=0.437, y=0.561) == scene.objects[0]
            assert (found.x, found.y) == pytest.approx((0.437, 0.561), abs=0.01)
            assert parse(drawn([scene], 32)[0]).background == background


@pytest.mark.parametrize(("size", "least"), [(16, 0.97), (32, 0.995), (64, 0.995)])
def test_scenes_are_read_back(size: int, least: float) -> None:
    figures = caption_accuracy(torch.from_numpy(drawn(SCENES, size)), ASKED)
    assert set(figures) == {"count", "background", "shape", "colour", "size", "both"}
    for name, figure in figures.items():
        assert figure.value >= least, name
        assert figure.low <= figure.value <= figure.high
    assert figures["count"].n == figures["background"].n == 150
    assert figures["shape"].n == figures["colour"].n == figures["size"].n == sum(len(s.objects) for s in SCENES)


@pytest.mark.parametrize("size", [32, 64])
def test_blur_noise_and_specks_change_little(size: int) -> None:
    rng = np.random.default_rng(0)
    blurred = ndimage.gaussian_filter(drawn(SCENES, size).astype(float), (0, 0, 0.7, 0.7))
    noisy = blurred + rng.normal(0, 8, blurred.shape)
    noisy[:, :, 2, 2] = 255 - noisy[:, :, 2, 2]
    figures = caption_accuracy(noisy.clip(0, 255).astype(np.uint8), ASKED)
    for name, figure in figures.items():
        assert figure.value >= 0.97, name


def test_wrong_attributes_cost_their_own_figure_alone() -> None:
    alone = [scene for scene in SCENES if len(scene.objects) == 1]
    images = drawn(alone, 32)

    def changed(thing: Thing, name: str, to: dict[str, str]) -> Thing:
        return Thing(**{**vars(thing), name: to[getattr(thing, name)]})

    def asked(**changes: dict[str, str]) -> dict[str, float]:
        """The accuracy where every asked object's value is another one."""
        ((name, to),) = changes.items()
        scenes = [replace(scene, objects=tuple(changed(thing, name, to) for thing in scene.objects)) for scene in alone]
        return {key: figure.value for key, figure in caption_accuracy(images, [s.attributes for s in scenes]).items()}

    right = {"count": 1, "background": 1, "shape": 1, "colour": 1, "size": 1, "both": 1}
    sizes = asked(size={"small": "large", "large": "small"})
    assert sizes == {**right, "size": 0}
    shapes = asked(shape=dict(zip(SHAPES, [*list(SHAPES)[1:], "circle"], strict=True)))
    assert shapes == {**right, "shape": 0, "both": 0}
    colours = asked(colour=dict(zip(COLOURS, [*list(COLOURS)[1:], "red"], strict=True)))
    assert colours == {**right, "colour": 0, "both": 0}
    grounds = [replace(scene, background="black") for scene in alone]
    share = Counter(scene.background for scene in alone)["black"] / len(alone)
    assert caption_accuracy(images, [s.attributes for s in grounds])["background"].value == pytest.approx(share)


def test_missing_and_surplus_objects_cost() -> None:
    red, blue = Thing("circle", "red", "small", 0.25, 0.3), Thing("square", "blue", "large", 0.7, 0.6)
    one, two = Scene("grey", (red,)), Scene("grey", (red, blue))
    missing = caption_accuracy(drawn([one], 32), [two.attributes])
    assert [missing[name].value for name in ("count", "shape", "colour", "size")] == [0, 0.5, 0.5, 0.5]
    surplus = caption_accuracy(drawn([two], 32), [one.attributes])
    assert [surplus[name].value for name in ("count", "shape", "colour", "size")] == [0, 1, 1, 1]
    nothing = caption_accuracy(np.full((1, 3, 32, 32), 128, np.uint8), [two.attributes])
    assert [nothing[name].value for name in ("count", "shape", "background")] == [0, 0, 1]


def test_pairs_with_most_in_common_are_matched_first() -> None:
    red, blue = Thing("circle", "red", "small", 0, 0), Thing("square", "blue", "large", 0, 0)
    assert match((red, blue), (blue, red)) == [(red, red), (blue, blue)]
    swapped = (replace(red, colour="blue"), replace(blue, colour="red"))
    assert {pair[1] for pair in match((red, blue), swapped)} == set(swapped)
    assert match((red, blue), (blue,)) == [(red, None), (blue, blue)]


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="2 images cannot show 1 scenes"):
        caption_accuracy(drawn(SCENES[:2], 32), ASKED[:1])
    with pytest.raises(ValueError, match=r"is no \(3, H, H\)"):
        parse(np.zeros((1, 32, 32), np.uint8))
