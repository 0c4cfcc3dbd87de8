from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from langevin.data.sources import SOURCES, Shapes
from langevin.data.sources.shapes import (
    BACKGROUNDS,
    COLOURS,
    HELD_OUT,
    PAIRS,
    RADII,
    SHAPES,
    Scene,
    Thing,
    coverage,
    draw_scene,
)
from langevin.errors import ConfigError

AREAS = {"circle": np.pi, "square": 4 * 0.88**2, "triangle": 3**0.5, "cross": 4 * (2 * 0.36 - 0.36**2)}
MANY = [Shapes(32, 3000).scene(index) for index in range(3000)]


def test_an_image_depends_on_seed_and_index_alone() -> None:
    few, many, other = Shapes(32, 5), Shapes(32, 500), Shapes(32, 5, seed=1)
    for index in range(5):
        one, two = few.read(index), many.read(index)
        assert np.array_equal(one.pixels, two.pixels)
        assert (one.key, one.label, one.caption, one.attributes) == (two.key, two.label, two.caption, two.attributes)
        assert Shapes(64, 5).scene(index) == few.scene(index) != other.scene(index)


def test_scenes_never_change_between_versions() -> None:
    """Frozen: other scenes under the same keys would be another data set."""
    source = Shapes(16, 10)
    assert [source.read(index).caption for index in range(3)] == [
        "a small orange cross on white",
        "a small yellow cross on white",
        "a small orange triangle right of a large green circle on white",
    ]
    pixels = b"".join(image.pixels.tobytes() for image in source)
    assert hashlib.sha256(pixels).hexdigest()[:16] == "0f54a5192930bbb5"


@pytest.mark.parametrize("small", [16, 32, 64])
def test_a_scene_is_the_same_picture_at_any_size(small: int) -> None:
    for scene in MANY[:20]:
        large = draw_scene(scene, small * 4).astype(float)
        mean = large.reshape(small, 4, small, 4, 3).mean(axis=(1, 3))
        off = np.abs(mean - draw_scene(scene, small))
        # only corners differ, which a distance smooths otherwise than an area does: a fixed number of pixels
        assert off.mean() < 1.5 * (16 / small) ** 2


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("radius", RADII.values())
def test_a_shape_covers_its_area_and_fills_its_box(shape: str, radius: float) -> None:
    cover = coverage(shape, radius, 0.45, 0.55, 256)
    assert cover.sum() / 256**2 == pytest.approx(AREAS[shape] * radius**2, rel=0.01)
    rows, columns = (np.flatnonzero(cover.max(axis=axis) > 0.5) / 256 for axis in (1, 0))
    tall = {"square": 0.88, "triangle": 3**0.5 / 2}.get(shape, 1) * radius
    wide = {"square": 0.88}.get(shape, 1) * radius
    assert (rows[0], rows[-1]) == pytest.approx((0.55 - tall, 0.55 + tall), abs=0.012)
    assert (columns[0], columns[-1]) == pytest.approx((0.45 - wide, 0.45 + wide), abs=0.012)


def test_objects_neither_overlap_nor_leave_the_image() -> None:
    for scene in MANY:
        boxes = [(thing.x, thing.y, RADII[thing.size]) for thing in scene.objects]
        for number, (x, y, r) in enumerate(boxes):
            assert r + 0.019 < x < 1 - r - 0.019
            assert r + 0.019 < y < 1 - r - 0.019
            for x2, y2, r2 in boxes[:number]:
                assert max(abs(x - x2), abs(y - y2)) > r + r2 + 0.059
    apart = [
        sum((coverage(t.shape, RADII[t.size], t.x, t.y, 32) > 0.02).astype(int) for t in scene.objects).max()  # type: ignore[union-attr]
        for scene in MANY[:300]
    ]
    assert max(apart) == 1


def test_every_attribute_is_as_common_as_the_law_says() -> None:
    counts = Counter(len(scene.objects) for scene in MANY)
    assert [counts[n] / len(MANY) for n in (1, 2, 3)] == pytest.approx([0.6, 0.3, 0.1], abs=0.03)
    grounds = Counter(scene.background for scene in MANY)
    assert [grounds[name] / len(MANY) for name in BACKGROUNDS] == pytest.approx([1 / 3] * 3, abs=0.03)
    things = [thing for number, scene in enumerate(MANY) if number % 10 != 9 for thing in scene.objects]
    pairs = Counter((thing.colour, thing.shape) for thing in things)
    assert [pairs[pair] / len(things) for pair in PAIRS if pair not in HELD_OUT] == pytest.approx(
        [1 / 20] * 20, abs=0.015
    )
    alone = [scene.objects[0].size for scene in MANY if len(scene.objects) == 1]
    assert alone.count("large") / len(alone) == pytest.approx(0.5, abs=0.04)


def test_held_out_pairs_are_in_every_image_of_their_split_and_in_no_other() -> None:
    source = Shapes(32, 3000)
    splits = [source.split_of(index) for index in range(3000)]
    assert Counter(splits) == {None: 2700, "heldout": 300}
    for split, scene in zip(splits, MANY, strict=True):
        novel = [thing for thing in scene.objects if (thing.colour, thing.shape) in HELD_OUT]
        assert len(novel) == (1 if split else 0)
    assert {shape for _, shape in HELD_OUT} <= set(SHAPES)
    assert {colour for colour, _ in HELD_OUT} <= set(COLOURS)


def test_captions_say_the_scene() -> None:
    red, blue = Thing("circle", "red", "small", 0.2, 0.5), Thing("square", "blue", "large", 0.7, 0.6)
    green = Thing("cross", "green", "small", 0.2, 0.2)
    assert Scene("grey", (red,)).caption == "a small red circle on grey"
    assert Scene("grey", (red, blue)).caption == "a small red circle left of a large blue square on grey"
    assert Scene("black", (blue, red)).caption == "a large blue square right of a small red circle on black"
    assert Scene("white", (red, blue, green)).caption == (
        "a small red circle left of a large blue square and below a small green cross on white"
    )
    assert "above" in Scene("white", (green, red)).caption


def test_images_carry_label_caption_and_attributes() -> None:
    source = SOURCES["shapes"](24, 40)
    for image in source:
        scene = Scene.of(image.attributes or {})
        first = scene.objects[0]
        assert source.info.classes[image.label] == f"{first.colour} {first.shape}"
        assert image.caption == scene.caption
        assert np.array_equal(image.pixels, draw_scene(scene, 24))
        moved = replace(scene, objects=(replace(first, x=0.5, y=0.5),))
        assert draw_scene(moved, 25)[12, 12].tolist() == list(COLOURS[first.colour])
        assert draw_scene(moved, 25)[0, 0].tolist() == list(BACKGROUNDS[scene.background])


def test_bad_requests_are_named() -> None:
    for size, count, field in ((15, 1, "size"), (257, 1, "size"), (32, 0, "count")):
        with pytest.raises(ConfigError) as caught:
            Shapes(size, count)
        assert caught.value.field == field
