"""Intervals hold what they promise: figures of new samples of the same size fall into them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from langevin.errors import NumericsError
from langevin.evaluation.bootstrap import Resampled, kid_figure, resamples
from langevin.evaluation.fidelity import InceptionScore, kid
from langevin.evaluation.frechet import fid_figures
from langevin.evaluation.intervals import Figure, inception_figure, mean, proportion
from langevin.evaluation.neighbours import neighbour_figures


def test_wilson_at_known_values() -> None:
    """Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662, 0 of 20 gives 0 to 0.1611, 15 of 148 0.0624 to 0.1605."""
    for successes, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        figure = proportion(successes, n)
        assert (round(figure.low, 4), round(figure.high, 4)) == (low, high)
    assert proportion(20, 20).high == 1.0


def test_mean_covers_the_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    figures = [mean(torch.rand(50, generator=generator)) for _ in range(400)]
    covered = sum(figure.low <= 0.5 <= figure.high for figure in figures) / 400
    assert 0.92 <= covered <= 0.98


def test_resamples_keep_every_class_and_are_keyed() -> None:
    labels = torch.tensor([3, 1, 1, 3, 3, 0])
    counts = resamples(5, "generated", labels, 200)
    for label in (0, 1, 3):
        assert (counts[:, labels == label].sum(1) == (labels == label).sum()).all()
    assert counts[:, labels == 3].double().mean().item() == pytest.approx(1.0)
    assert counts[:, 0].double().var().item() == pytest.approx(2 / 3, rel=0.3)  # binomial(3, 1/3)
    assert torch.equal(resamples(5, "generated", labels, 10), counts[:10])
    assert not torch.equal(resamples(6, "generated", labels, 200), counts)
    assert not torch.equal(resamples(5, "reference", labels, 200), counts)


def mixture(n: int, spread: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Three classes in five dimensions, far apart."""
    labels = torch.arange(n) % 3
    centres = torch.eye(3, 5) * 4
    return centres[labels] + torch.randn(n, 5, generator=generator) * spread, labels


@pytest.fixture(scope="module")
def repeated() -> dict[str, list[Figure]]:
    """40 repetitions of one measurement, each on samples of its own."""
    generator = torch.Generator().manual_seed(0)
    found: dict[str, list[Figure]] = {}
    for seed in range(40):
        sets = {
            name: Resampled.of(features, seed, name, labels, times=30)
            for name, n, spread in (("generated", 150, 1.2), ("reference", 120, 1.0), ("train", 150, 1.0))
            for features, labels in [mixture(n, spread, generator)]
        }
        ours, theirs = sets["generated"], sets["reference"]
        fids = fid_figures(ours, theirs, sets["train"])
        distance = kid_figure(kid(ours.features, theirs.features, seed), ours, theirs)
        row = {
            "fid": fids.fid,
            "floor": fids.floor,
            "ratio": fids.ratio,
            "kid": distance,
            **neighbour_figures(ours, theirs),
        }
        for name, figure in row.items():
            found.setdefault(name, []).append(figure)
    return found


@pytest.mark.parametrize("name", ["fid", "floor", "ratio", "kid", "precision", "recall", "density", "coverage"])
def test_intervals_cover_what_other_samples_give(repeated: dict[str, list[Figure]], name: str) -> None:
    figures = repeated[name]
    values = torch.tensor([figure.value for figure in figures])
    expected = values.mean().item()
    covered = sum(figure.low <= expected <= figure.high for figure in figures) / len(figures)
    assert covered >= 0.85
    assert all(figure.low <= figure.value <= figure.high for figure in figures)
    # not by being wide without measure: the ratio of two noisy numbers may be wider than the rest
    typical = torch.tensor([figure.margin for figure in figures]).median().item() / 1.96
    assert typical <= (4 if name == "ratio" else 2.5) * values.std().item()


def test_more_images_narrow_the_interval() -> None:
    generator = torch.Generator().manual_seed(3)
    margins = []
    for n in (300, 4800):
        sets = [Resampled.of(mixture(n, s, generator)[0], 0, str(s), torch.arange(n) % 3, 60) for s in (1.8, 1.0, 0.99)]
        margins.append(fid_figures(*sets).fid.margin)
    assert margins[0] / margins[1] == pytest.approx(4, rel=0.5)


def test_inception_interval_is_students() -> None:
    figure = inception_figure(InceptionScore(mean=8.0, deviation=0.3, splits=10), n=500)
    assert figure.margin == pytest.approx(2.262157 * 0.3 / 3)


def test_a_figure_is_finite() -> None:
    with pytest.raises(NumericsError, match="not finite"):
        Figure(math.nan, 0, 1, 10)
    images = Resampled.of(torch.randn(60, 3), 0, "same")
    other = Resampled.of(torch.randn(60, 3), 0, "other")
    with pytest.raises(NumericsError, match="floor"):
        fid_figures(other, Resampled.of(torch.zeros(60, 3), 0, "a"), Resampled.of(torch.zeros(60, 3), 0, "b"))
    assert fid_figures(images, images, other).fid.value == pytest.approx(0, abs=1e-6)
