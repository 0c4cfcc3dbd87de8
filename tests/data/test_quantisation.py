from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from langevin.data.quantisation import dequantise, from_bytes, quantise, to_bytes, values_of_bytes
from langevin.errors import ConfigError, DataError, NumericsError


@pytest.mark.parametrize("levels", [2, 3, 16, 17, 100, 255, 256])
def test_every_level_survives_every_round_trip(levels: int) -> None:
    level = torch.arange(levels)
    assert torch.equal(quantise(dequantise(level, levels), levels), level)
    assert torch.equal(from_bytes(to_bytes(level, levels), levels), level)
    assert torch.equal(values_of_bytes(levels)[to_bytes(level, levels).long()], dequantise(level, levels))


def test_256_levels_are_the_published_convention() -> None:
    images = torch.cat([torch.linspace(-1.2, 1.2, 100_001), torch.randn(100_000)])
    assert torch.equal(quantise(images, 256), (images * 127.5 + 128).clip(0, 255).to(torch.uint8).long())


def test_bytes_of_17_levels_are_spread_over_a_normal_picture() -> None:
    assert to_bytes(torch.tensor([0, 4, 8, 12, 16]), 17).tolist() == [0, 64, 128, 191, 255]
    assert to_bytes(torch.arange(256), 256).tolist() == list(range(256))


@given(value=st.floats(-1, 1, width=32), levels=st.integers(2, 256))
def test_the_nearest_level_is_taken(value: float, levels: int) -> None:
    chosen = dequantise(quantise(torch.tensor([value]), levels), levels)
    assert abs(chosen.item() - value) <= 1 / (levels - 1) + 1e-6


@given(value=st.floats(allow_nan=False, allow_infinity=False, width=32), levels=st.integers(2, 256))
def test_values_outside_are_clipped(value: float, levels: int) -> None:
    level = quantise(torch.tensor([value]), levels).item()
    assert level == quantise(torch.tensor([min(max(value, -1), 1)]), levels).item()


def test_half_precision_images_get_exact_levels() -> None:
    level = torch.arange(17)
    assert torch.equal(quantise(dequantise(level, 17).bfloat16(), 17), level)


def test_what_is_no_level_is_refused() -> None:
    with pytest.raises(DataError, match="17 grey levels") as caught:
        from_bytes(torch.tensor([0, 17, 255], dtype=torch.uint8), 17)
    assert caught.value.value == 17
    with pytest.raises(NumericsError):
        quantise(torch.tensor([0.0, float("nan")]), 17)
    with pytest.raises(ConfigError, match="levels"):
        dequantise(torch.tensor([0]), 1)
