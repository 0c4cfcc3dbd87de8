"""How near a reconstruction is to its image: the peak signal-to-noise ratio."""

from __future__ import annotations

import torch
from torch import Tensor

from langevin.errors import DataError
from langevin.evaluation.intervals import Figure, mean

UNIT = "dB"
PEAK = 255


def psnr(images: Tensor, reconstructions: Tensor) -> Tensor:
    """10 log10(255^2 / mean squared error) of each image, (N,) float64 in dB; infinite where nothing differs.

    images, reconstructions: (N, C, H, W) uint8, in pairs. DataError where they are not.
    """
    if images.shape != reconstructions.shape or len(images) == 0:
        found = f"{tuple(images.shape)} and {tuple(reconstructions.shape)}"
        raise DataError(f"images and reconstructions of shapes {found} are no pairs")
    if images.dtype != torch.uint8 or reconstructions.dtype != torch.uint8:
        raise DataError(f"PSNR is of uint8 images, found {images.dtype} and {reconstructions.dtype}")
    off = images.short() - reconstructions.short()  # unsigned numbers have no negative differences
    error = off.flatten(1).double().square().mean(1)
    return 10 * torch.log10(PEAK**2 / error)


def psnr_figure(images: Tensor, reconstructions: Tensor) -> Figure:
    """The mean over images of their PSNR in dB, with its interval. NumericsError where a pair is identical.

    The mean of the ratios, as is usual, is above the ratio of the mean error (Jensen), so the two are not to be compared.
    """
    return mean(psnr(images, reconstructions), UNIT)
