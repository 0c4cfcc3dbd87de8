"""PSNR by hand, per image."""

from __future__ import annotations

import math

import pytest
import torch

from langevin.errors import DataError, NumericsError
from langevin.evaluation.reconstruction import psnr, psnr_figure


def test_psnr_of_constant_errors() -> None:
    """An error of d everywhere is 20 log10(255 / d): 48.13 dB at 1, 0 at 255; nothing wraps round at 0."""
    images = torch.zeros(3, 3, 4, 4, dtype=torch.uint8)
    off = torch.tensor([1, 16, 255], dtype=torch.uint8)[:, None, None, None].expand_as(images)
    expected = torch.tensor([20 * math.log10(255 / d) for d in (1, 16, 255)], dtype=torch.float64)
    torch.testing.assert_close(psnr(images, off), expected)
    torch.testing.assert_close(psnr(off, images), expected)
    figure = psnr_figure(images, off)
    assert (figure.value, figure.n, figure.unit) == (pytest.approx(expected.mean().item()), 3, "dB")
    assert figure.low < figure.value < figure.high


def test_what_cannot_be_compared_is_refused() -> None:
    images = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    assert bool(psnr(images, images).isinf().all())
    with pytest.raises(NumericsError):
        psnr_figure(images, images)
    for other in (images.float(), images[:1]):
        with pytest.raises(DataError):
            psnr(images, other)
