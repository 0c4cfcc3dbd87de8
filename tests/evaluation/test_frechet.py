"""FID's interval: the influences are derivatives, and what it says it covers it covers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from langevin.evaluation.frechet import _distance, extrapolated, fid, fid_figure
from langevin.evaluation.sets import FeatureSet
from langevin.evaluation.statistics import Moments


@pytest.mark.parametrize("dim", [3, 40])  # 40: fewer images than dimensions in one set
def test_an_influence_is_what_one_image_more_changes(dim: int) -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(60, dim, generator=generator).double()
    b = torch.randn(30, dim, generator=generator).double() * 1.3 + 0.2
    found = _distance(a, b)
    assert found.value == pytest.approx(fid(Moments.of(a), Moments.of(b)), rel=1e-12)
    influence = found.of_a - found.of_a.mean()
    times = 10**5  # copies of every image, so that one more is a small step
    for place in range(0, 60, 20):
        of_a = Moments.of(a, torch.full((60,), times) + times // 1000 * (torch.arange(60) == place))
        of_b = Moments.of(b, torch.full((30,), times))
        base = fid(Moments.of(a, torch.full((60,), times)), of_b)
        step = (fid(of_a, of_b) - base) * 60 * 1000
        assert step == pytest.approx(influence[place].item(), rel=0.03, abs=0.01 * influence.abs().max().item())


def gaussians(n: int, m: int, means: Tensor, deviations: Tensor, seed: int) -> tuple[FeatureSet, FeatureSet]:
    """n of N(means, deviations^2) against m of N(0, 1)."""
    generator = torch.Generator().manual_seed(seed)
    one = torch.randn(n, len(means), generator=generator) * deviations + means
    other = torch.randn(m, len(means), generator=generator)
    return FeatureSet.of(one, seed, "generated"), FeatureSet.of(other, seed, "reference")


PAIRS = {
    "a shift and a scale": (500, 500, torch.full((8,), 0.2), torch.full((8,), 1.2)),
    "few images": (200, 120, torch.linspace(0, 0.5, 12), torch.linspace(0.8, 1.3, 12)),
    "the same distribution": (400, 300, torch.zeros(16), torch.ones(16)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_fid_infinity_covers_the_true_distance(name: str) -> None:
    """200 pairs of samples: 95 % intervals hold the distance of the two Gaussians in 90 to 99 % of them. Plain FID is biased
    by more than its noise: its intervals hold where other samples' FID lands, and not the distance.
    """
    n, m, means, deviations = PAIRS[name]
    true = float(means.square().sum() + (deviations - 1).square().sum())
    covered, values, wholes = 0, [], []
    for seed in range(200):
        pair = gaussians(n, m, means, deviations, seed)
        whole = fid_figure(*pair)
        found = extrapolated(whole, *pair)["fid_infinity"]
        covered += found.low <= true <= found.high
        values.append(found.value)
        wholes.append(whole)
    estimates = torch.tensor(values, dtype=torch.float64)
    assert 180 <= covered <= 198
    expected = sum(whole.value for whole in wholes) / 200
    assert sum(whole.low <= expected <= whole.high for whole in wholes) >= 180
    assert sum(whole.low <= true <= whole.high for whole in wholes) < 180
    assert estimates.mean().item() == pytest.approx(true, abs=4 * estimates.std().item() / math.sqrt(200))


def test_fid_falls_with_n_on_a_line_in_1_over_n() -> None:
    generated, reference = gaussians(1200, 1200, torch.full((8,), 0.2), torch.full((8,), 1.2), 3)
    whole = fid_figure(generated, reference)
    found = extrapolated(whole, generated, reference)
    assert [found[name].n for name in ("fid_half", "fid_three_quarters", "fid_infinity")] == [600, 900, 1200]
    half, three_quarters, infinity = (found[name].value for name in found)
    assert half > three_quarters > whole.value > infinity
    assert half - whole.value == pytest.approx(3 * (three_quarters - whole.value), rel=0.3)
    assert infinity == pytest.approx(whole.value - 3 * (three_quarters - whole.value), rel=1e-9)


def test_the_interval_is_as_wide_as_new_samples_spread() -> None:
    settings = PAIRS["a shift and a scale"]
    spread = torch.tensor([fid_figure(*gaussians(*settings, seed)).value for seed in range(100)]).std().item()
    claimed = [fid_figure(*gaussians(*settings, seed)).margin / 1.96 for seed in range(20)]
    assert sum(claimed) / 20 == pytest.approx(1.1 * spread, rel=0.15)  # errs on the wide side


def test_only_what_differs_within_classes_counts() -> None:
    """Two far classes of fixed numbers: the interval is that of the noise in each."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 2
    images = torch.randn(400, 3, generator=generator) + 20 * labels[:, None] * torch.eye(3)[0]
    other = torch.randn(400, 3, generator=generator) * 1.5 + 20 * labels[:, None] * torch.eye(3)[0]
    within = fid_figure(FeatureSet.of(images, 0, "a", labels), FeatureSet.of(other, 0, "b", labels))
    across = fid_figure(FeatureSet.of(images, 0, "a"), FeatureSet.of(other, 0, "b"))
    assert within.value == across.value
    assert within.margin <= across.margin
