"""FID and its moments: what mathematics says about them."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from langevin.errors import DataError
from langevin.evaluation.frechet import fid
from langevin.evaluation.statistics import Moments


def test_moments_add_up_in_any_order() -> None:
    features = torch.randn(1000, 6, generator=torch.Generator().manual_seed(0)) * 3 + 100
    whole = Moments.of(features)
    parts = [Moments.of(part) for part in features.split([1, 499, 137, 363])]
    for order in permutations(parts):
        merged = sum(order[1:], start=order[0])
        assert merged.n == 1000
        torch.testing.assert_close(merged.mean, whole.mean, rtol=1e-12, atol=0)
        torch.testing.assert_close(merged.scatter, whole.scatter, rtol=1e-12, atol=1e-12 * whole.scatter.max().item())
    torch.testing.assert_close(whole.covariance, torch.cov(features.double().T), rtol=1e-12, atol=1e-12)


def test_counts_stand_for_copies() -> None:
    features = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    counts = torch.tensor([2, 0, 1, 4, 1])
    counted, copied = Moments.of(features, counts), Moments.of(features.repeat_interleave(counts, dim=0))
    assert counted.n == copied.n
    torch.testing.assert_close(counted.covariance, copied.covariance, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("n", "dim"), [(200, 64), (40, 64), (300, 5)])
def test_fid_of_a_set_against_itself_is_zero(n: int, dim: int) -> None:
    moments = Moments.of(torch.randn(n, dim, generator=torch.Generator().manual_seed(1)) * 5)
    assert 0 <= fid(moments, moments) <= 1e-6


def test_fid_of_diagonal_gaussians() -> None:
    """3 dimensions, means 0.1 apart, deviations 1 and 1.1: 3 (0.1^2 + 0.1^2) = 0.06."""
    eye, n = torch.eye(3, dtype=torch.float64), 1001
    a = Moments(n, torch.zeros(3, dtype=torch.float64), eye * (n - 1))
    b = Moments(n, torch.full((3,), 0.1, dtype=torch.float64), eye * 1.1**2 * (n - 1))
    assert fid(a, b) == pytest.approx(0.06, abs=1e-12)
    assert fid(b, a) == pytest.approx(0.06, abs=1e-12)


def test_fid_does_not_see_a_rotation_of_both() -> None:
    generator = torch.Generator().manual_seed(2)
    a, b = torch.randn(50, 8, generator=generator).double(), torch.randn(60, 8, generator=generator).double() * 2 + 1
    turn = torch.linalg.qr(torch.randn(8, 8, generator=generator).double()).Q
    turned = fid(Moments.of(a @ turn), Moments.of(b @ turn))
    assert turned == pytest.approx(fid(Moments.of(a), Moments.of(b)), rel=1e-10)


def test_too_few_images() -> None:
    with pytest.raises(DataError, match="at least two"):
        _ = Moments.of(torch.ones(1, 3)).covariance
    with pytest.raises(DataError, match="no features"):
        Moments.of(torch.ones(0, 3))
