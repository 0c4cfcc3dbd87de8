"""Who does the parts of an evaluation side by side: threads of this process, or workers of a cluster (cluster/crew.py).

On the CPU no figure depends on who it was, to the bit: a part's result is a function of the part alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, Self, TypeVar

import torch
from torch import nn

from langevin.protocols import own_device

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Work(ABC, Generic[Item, Result]):
    """What is done with a part: a value that can travel. model: what it is done with; device: where that lies."""

    model: Any
    device: torch.device = field(default=torch.device("cpu"), kw_only=True)

    def to(self, device: torch.device) -> Self:
        """The same work on a device, to which the very model moves. One that is no module, whose place is its own affair,
        stays where it is.
        """
        moved = self.model.to(device) if isinstance(self.model, nn.Module) else self.model
        return replace(self, device=device, model=moved)

    def here(self) -> Self:
        """On the accelerator that this process was given, or the CPU, in float32 on either."""
        torch.backends.cudnn.allow_tf32 = False  # its default is to round convolutions to 10 bits
        return self.to(own_device())

    @torch.no_grad()  # in each thread: whether gradients are kept is a thread's own affair
    def __call__(self, item: Item) -> Result:
        return self.do(item)

    @abstractmethod
    def do(self, item: Item) -> Result:
        """The result, on the CPU."""


class Crew(Protocol):
    def map(self, work: Work[Item, Result], items: Sequence[Item], done: Callable[[Item], None] = ...) -> list[Result]:
        """The work on every item, in the items' order. done: called with each item that is finished, in any order, from one
        thread.
        """
        ...


@dataclass(frozen=True)
class Threads:
    """In this process, on the GPU that it was given or the CPU. Torch lets go of Python's lock inside its operations, so
    threads share out the cores. Set torch to one thread an operation: a part's bytes then depend on no machine's number of
    cores, and cores that are busy elsewhere hold up one part and not every operation.
    """

    count: int = 1

    def map(
        self, work: Work[Item, Result], items: Sequence[Item], done: Callable[[Item], None] = lambda _: None
    ) -> list[Result]:
        placed, found = work.here(), list[Result]()
        with ThreadPoolExecutor(self.count) as pool:
            results = map(placed, items) if self.count == 1 else pool.map(placed, items)
            for item, result in zip(items, results, strict=True):
                found.append(result)
                done(item)
        return found


ALONE = Threads()  # one part after the other
