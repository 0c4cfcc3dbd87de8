"""A noise level: a number for every sample of a batch of any shape."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError

import pytest
import torch

from langevin.diffusion.levels import NoiseLevel


def level(alpha: list[float], sigma: list[float]) -> NoiseLevel:
    numbers = [torch.tensor(values, dtype=torch.float64) for values in ([0.5] * len(alpha), alpha, sigma)]
    return NoiseLevel(*numbers)


def test_log_snr() -> None:
    found = level([0.8, 1.0, 0.0], [0.6, 0.0, 1.0]).log_snr
    assert float(found[0]) == pytest.approx(2 * math.log(0.8 / 0.6), rel=1e-14)
    assert found[1:].tolist() == [math.inf, -math.inf]


@pytest.mark.parametrize("shape", [(2,), (2, 3), (2, 1, 4, 5)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_each_sample_meets_its_own_level(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x0, eps = torch.ones(shape, dtype=dtype), torch.full(shape, 10.0, dtype=dtype)
    found = level([0.8, 0.0], [0.6, 1.0]).diffuse(x0, eps)
    assert found.dtype == dtype
    torch.testing.assert_close(found[0], torch.full(shape[1:], 6.8, dtype=dtype))
    torch.testing.assert_close(found[1], torch.full(shape[1:], 10.0, dtype=dtype))


def test_one_level_for_all_samples() -> None:
    one = NoiseLevel(torch.tensor(0.5), torch.tensor(0.8), torch.tensor(0.6))
    torch.testing.assert_close(one.diffuse(torch.ones(3, 2), torch.zeros(3, 2)), torch.full((3, 2), 0.8))


def test_a_level_is_a_value() -> None:
    one = level([0.8], [0.6])
    with pytest.raises(FrozenInstanceError):
        one.alpha = one.sigma  # type: ignore[misc]


def test_a_level_meets_data_in_their_precision_and_shape() -> None:
    at = level([0.8, 0.5], [0.6, 0.25]).against(torch.zeros(2, 3, 4, dtype=torch.float32))
    for found, expected in ((at.t, [0.5, 0.5]), (at.alpha, [0.8, 0.5]), (at.sigma, [0.6, 0.25])):
        assert torch.equal(found, torch.tensor(expected).reshape(2, 1, 1))
