"""A network that always sees batches of one size, so that rounding does not tell who shares a batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

SIZE = 32


class InBlocks(nn.Module):
    """network(x, ...) by blocks of ``size`` samples, the last one filled up. x: (B, ...); the others (B, ...), None or
    tuples of such, named or not, in any depth.

    Matrix and convolution kernels choose their order of summation by the size of the batch. At one size a sample has the
    same bits among any neighbours, so with noise that is its own it is the same image in any batch and on any worker. On
    the CPU: elsewhere kernels make no such promise, and the batch goes through as it is.
    """

    def __init__(self, network: nn.Module, size: int = SIZE) -> None:
        super().__init__()
        self.network, self.size = network, size

    def forward(self, x: Tensor, *others: Any) -> Tensor:
        if x.device.type != "cpu":
            whole: Tensor = self.network(x, *others)
            return whole
        parts = zip(*(self._blocks(values, len(x)) for values in (x, *others)), strict=True)
        return torch.cat([self.network(*block) for block in parts])[: len(x)]

    def _blocks(self, values: Any, count: int) -> list[Any]:
        blocks = -(-count // self.size)
        if values is None:
            return [None] * blocks
        if isinstance(values, tuple):
            made = getattr(values, "_make", tuple)  # a named tuple stays one
            return [made(block) for block in zip(*(self._blocks(part, count) for part in values), strict=True)]
        missing = blocks * self.size - count
        filled = pad(values, (0, 0) * (values.ndim - 1) + (0, missing)) if missing else values
        return list(torch.split(filled, self.size))
