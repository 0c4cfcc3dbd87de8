"""The number format that networks multiply in while they learn, chosen here and nowhere else."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["fp32", "bf16"]


def multiplying(precision: Precision, device: torch.device) -> torch.autocast:
    """A context in which matrix products and convolutions of float32 tensors are taken in ``precision``.

    Weights, their averages and moments, sums and norms stay float32, and what is float64, as levels and terms of bounds
    are, stays that. bf16 has float32's range, so losses need no scaling. Micikevicius et al. 2018; Kalamkar et al. 2019.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
