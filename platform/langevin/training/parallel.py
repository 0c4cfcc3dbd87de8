"""One process or many: the same loop. The process group, where there is one, was made by whoever started the process."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from langevin.protocols import Batch, Losses, Trainable
from langevin.randomness import Keys


class LossModule(nn.Module):
    """A method's loss as a module's forward, which is where DistributedDataParallel hooks in."""

    def __init__(self, method: nn.Module) -> None:
        super().__init__()
        self.method = method

    def forward(self, batch: Batch, keys: Keys) -> Losses:
        method: Trainable = self.method  # type: ignore[assignment]
        return method.loss(batch, keys)


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def distributed(method: nn.Module) -> nn.Module:
    """The method's loss, its gradients averaged over the process group."""
    module = LossModule(method)
    if world() == 1:
        return module
    return DistributedDataParallel(module, broadcast_buffers=False, gradient_as_bucket_view=True)


def averaging(module: nn.Module, now: bool) -> AbstractContextManager[None]:
    """Backward passes inside average gradients over the group, or only add to this process's until one that does."""
    return nullcontext() if now or not isinstance(module, DistributedDataParallel) else module.no_sync()  # type: ignore[no-untyped-call,no-any-return]


def summed(values: Tensor) -> Tensor:
    """The sum over all processes, on each of them."""
    if world() > 1:
        dist.all_reduce(values)
    return values


def gathered(terms: Mapping[str, Tensor], places: Tensor, count: int) -> dict[str, Tensor]:
    """Per-sample terms of all processes together, (count,) each, on each of them and to the bit.

    terms: name -> (b,) of this process's share, which may be none, under the same names everywhere; places: (b,) int64,
    where they belong in the whole, no place twice.
    """
    names = sorted(terms)
    whole = torch.zeros(len(names), count, dtype=torch.float64, device=places.device)  # holds any float32 exactly
    for row, name in zip(whole, names, strict=True):
        row[places] = terms[name].detach().double()
    return {name: row.to(terms[name].dtype) for name, row in zip(names, summed(whole), strict=True)}
