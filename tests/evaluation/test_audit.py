"""Gaps between generated and training images are found and named; equal sets have none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from langevin.data.sources.shapes import Scene, Shapes, Thing, draw_scene
from langevin.evaluation.audit import Aspect, Table, audit, categorical, largest, looks
from langevin.evaluation.judge import Judge, Parser
from langevin.evaluation.suite import RealImages, audit_samples

NAMES = tuple("abcd")


def drawn(shares: list[float], n: int, seed: int) -> Table:
    generator = torch.Generator().manual_seed(seed)
    return categorical(torch.multinomial(torch.tensor(shares), n, True, generator=generator), NAMES)


def of(shares: list[float], seed: int = 0, n: int = 400) -> Aspect:
    ours, theirs = drawn(shares, n, 2 * seed), drawn([0.25] * 4, n, 2 * seed + 1)
    return audit({"class": ours}, {"class": theirs}, seed)["class"]


def test_a_gap_is_found_and_named() -> None:
    aspect = of([0.1, 0.4, 0.25, 0.25])
    assert aspect.distance == pytest.approx(0.15, abs=0.08)
    assert aspect.chance < 0.06
    assert aspect.p == 1 / 1000
    assert {gap.category for gap in aspect.gaps[:2]} == {"a", "b"}
    named = largest({"class": aspect})
    assert named[0].startswith("class b: ")
    assert named[0].endswith("of the training images")
    share = {gap.category: gap.generated for gap in aspect.gaps}["a"]
    assert f"class a: {share:.1%} of the generated" in named[1]


def test_equal_sets_are_equal_and_p_is_uniform() -> None:
    aspects = [of([0.25] * 4, seed, n=100) for seed in range(1, 41)]
    p = np.sort([aspect.p for aspect in aspects])
    assert np.abs(p - (np.arange(40) + 0.5) / 40).max() < 1.36 / 40**0.5 + 0.02  # Kolmogorov's 5 % point
    assert sum(bool(largest({"class": aspect})) for aspect in aspects) <= 6
    covered = sum(abs(gap.difference) <= gap.margin for aspect in aspects for gap in aspect.gaps)
    assert covered >= 0.85 * 3 * 40  # of the three largest of four
    assert np.mean([aspect.distance - aspect.chance for aspect in aspects]) == pytest.approx(0, abs=0.02)


def test_shares_of_objects_know_that_they_come_in_images() -> None:
    """An image with ten objects is one image: the interval is that of images."""
    images = (torch.arange(100) % 2).double()[:, None] * torch.tensor([10.0, 0.0]) + torch.tensor([0.0, 5.0])
    other = torch.full((100, 2), 5.0, dtype=torch.float64)
    found = audit({"x": Table(images, ("a", "b"), "objects")}, {"x": Table(other, ("a", "b"), "objects")}, 0)["x"]
    assert found.gaps[0].generated == pytest.approx(0.5, abs=1e-9)
    spread = 1.96 * (5**2 * 0.25) ** 0.5 / 10 / 10 * (100 / 99) ** 0.5  # residuals of 2.5, mean weight 10
    assert found.gaps[0].margin == pytest.approx(spread, rel=1e-3)


def test_brightness_and_colours() -> None:
    generator = torch.Generator().manual_seed(0)
    train = torch.randint(0, 256, (300, 3, 4, 4), generator=generator).byte()
    darker = (
        torch.randint(0, 256, (300, 3, 4, 4), generator=generator) * torch.tensor([0.7, 1, 1])[:, None, None]
    ).byte()
    found = audit(looks(darker, train), looks(train, train), 0)
    assert set(found) == {"brightness", "red", "green", "blue"}
    assert found["red"].p == found["brightness"].p == 1 / 1000
    assert found["green"].p > 0.01
    assert found["brightness"].gaps[0].train == pytest.approx(0.1, abs=0.01)
    assert found["red"].of == "pixels"
    assert any(said.startswith("red ") for said in largest(found))
    assert set(looks(train[:, :1], train[:, :1])) == {"brightness", "grey"}


def shapes(scenes: list[Scene]) -> Tensor:
    return torch.from_numpy(np.stack([np.moveaxis(draw_scene(scene, 16), -1, 0) for scene in scenes]))


def test_attributes_that_can_be_read() -> None:
    source = Shapes(16, 60)
    train = shapes([source.scene(index) for index in range(60)])
    only = shapes([Scene("grey", (Thing("circle", "red", "large", 0.5, 0.5),))] * 60)
    found = audit_samples(only, RealImages(train), Parser(("red circle",)), ("red circle",))
    assert {"shape", "colour", "size", "background", "objects"} < set(found)
    (gap,) = [gap for gap in found["shape"].gaps if gap.category == "circle"]
    assert gap.generated == 1
    assert found["background"].p == 1 / 1000
    assert any(said.startswith("background grey: 100.0% of the generated") for said in largest(found, 20))


def test_what_the_judge_sees(digits) -> None:
    train = RealImages(digits.train.images[:400], digits.train.labels[:400])
    judge = Judge.train(train.images, train.labels)
    names = tuple(map(str, range(10)))
    sevens = digits.test.images[digits.test.labels != 7]
    found = audit_samples(sevens, train, judge, names)
    assert found["class"].gaps[0].category == "7"
    assert "class 7: 0" in " ".join(largest(found))
