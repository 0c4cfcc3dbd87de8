"""diffusers itself, imported where torchvision's extension may be missing, and networks of it with random weights."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch

from langevin.evaluation.compatibility import declare_missing_operators

declare_missing_operators()  # diffusers imports torchvision
from diffusers import (  # noqa: E402
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    UNet2DModel,
)
from diffusers.utils import logging  # noqa: E402

__all__ = ["DDIMPipeline", "DDIMScheduler", "DDPMPipeline", "DDPMScheduler", "Network", "UNet2DModel", "awake", "unet"]

logging.disable_progress_bar()
Network: TypeAlias = Any  # diffusers' decorators hide its classes from mypy


def awake(network: Any, seed: int = 0) -> Any:
    """The network with weights that make every branch matter: none is zero, and norms differ from channel to channel."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            size = 1 / max(parameter[0].numel(), 1) ** 0.5 if parameter.ndim > 1 else 0.3
            parameter.copy_(size * torch.randn(parameter.shape, generator=generator) + (parameter == 1))
    return network.eval()


def unet(**changes: Any) -> Network:
    """A small UNet2DModel with random weights. Everything that is not changed is the class's default but for its size."""
    small: dict[str, Any] = {
        "sample_size": 16,
        "block_out_channels": (32, 64, 96),
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    }
    return awake(UNet2DModel(**small | changes))
