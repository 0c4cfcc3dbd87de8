"""Intervals hold what they promise: figures of new samples of the same size fall into them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from langevin.errors import NumericsError
from langevin.evaluation.frechet import fid_figures
from langevin.evaluation.inception import inception_figure
from langevin.evaluation.intervals import Figure, mean, proportion
from langevin.evaluation.kid import kid_figure
from langevin.evaluation.neighbours import neighbour_figures
from langevin.evaluation.sets import FeatureSet
from langevin.evaluation.spread import Part


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


def test_only_what_differs_within_strata_counts() -> None:
    labels = torch.arange(300) % 3
    values = torch.randn(300, generator=torch.Generator().manual_seed(0)).double()
    within = [values[labels == label].var() * 100 for label in range(3)]
    assert Part(values, labels).variance == pytest.approx(float(sum(within)) / 300**2)
    assert Part(values + 50 * labels, labels).variance == pytest.approx(Part(values, labels).variance)
    assert Part(values, torch.zeros(300).long()).variance == pytest.approx(float(values.var()) / 300)
    assert Part(values, torch.arange(300)).variance == 0  # nothing is known of a stratum of one


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
            name: FeatureSet.of(features, seed, name, labels)
            for name, n, spread in (("generated", 150, 1.2), ("reference", 120, 1.0), ("train", 150, 1.0))
            for features, labels in [mixture(n, spread, generator)]
        }
        ours, theirs = sets["generated"], sets["reference"]
        fids = fid_figures(ours, theirs, sets["train"])
        logits = -0.2 * (ours.features - torch.eye(5)[:3, None] * 4).square().sum(dim=2).T  # of the three classes
        row = {
            "fid": fids.fid,
            "floor": fids.floor,
            "ratio": fids.ratio,
            "kid": kid_figure(ours, theirs, seed),
            "inception_score": inception_figure(logits, ours.strata, 0),
            **neighbour_figures(ours, theirs),
        }
        for name, figure in row.items():
            found.setdefault(name, []).append(figure)
    return found


NAMES = ("fid", "floor", "ratio", "kid", "inception_score", "precision", "recall", "density", "coverage")


@pytest.mark.parametrize("name", NAMES)
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
        sets = [FeatureSet.of(mixture(n, s, generator)[0], 0, str(s), torch.arange(n) % 3) for s in (1.8, 1.0, 0.99)]
        margins.append(fid_figures(*sets).fid.margin)
    assert margins[0] / margins[1] == pytest.approx(4, rel=0.5)


def test_a_figure_is_finite() -> None:
    with pytest.raises(NumericsError, match="not finite"):
        Figure(math.nan, 0, 1, 10)
    images = FeatureSet.of(torch.randn(60, 3), 0, "same")
    other = FeatureSet.of(torch.randn(60, 3), 0, "other")
    with pytest.raises(NumericsError, match="floor"):
        fid_figures(other, FeatureSet.of(torch.zeros(60, 3), 0, "a"), FeatureSet.of(torch.zeros(60, 3), 0, "b"))
    assert fid_figures(images, images, other).fid.value == pytest.approx(0, abs=1e-6)
