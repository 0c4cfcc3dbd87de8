"""What a model's training step and its samples cost, counted by the model itself with networks that have no numbers.

Its own ``loss`` and ``sample`` run, for a few images on the CPU, and decide by real noise levels, steps and guidance; but
each network is on the meta device, where shapes go through it and nothing is computed. So every method is priced by what
it does, in seconds and without the memory of its weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from langevin.config.table import NETWORKS
from langevin.networks.autoencoder import Decoder, Encoder
from langevin.networks.cost import kept_bytes, operations
from langevin.networks.discriminator import PatchDiscriminator
from langevin.protocols import Batch, Conditioned
from langevin.randomness import Keys

KINDS: tuple[type[nn.Module], ...] = tuple(dict.fromkeys((*NETWORKS, Encoder, Decoder, PatchDiscriminator)))
IMAGES = 2  # that a step is counted with, and half of them to know a batch's bytes from an image's


@dataclass(frozen=True)
class Step:
    """A training step. trained, frozen: parameters; forward, training: operations an image, without and with the backward
    pass; activations, fixed: bytes that wait for it, an image's and a batch's of any size (weights brought to length one).
    """

    trained: int
    frozen: int
    forward: int
    training: int
    activations: int
    fixed: int


@dataclass(frozen=True)
class Draw:
    """One image drawn. calls: of networks (config/table.py's NETWORKS); operations: of all that has weights."""

    calls: int
    operations: int


@contextmanager
def weightless() -> Iterator[None]:
    """Networks that are built inside have shapes and no weights: they are on the meta device, all else is where it was."""
    own = {kind: kind.__init__ for kind in KINDS}

    def on_meta(build: Callable[..., None]) -> Callable[..., None]:
        def built(self: nn.Module, *given: Any, **named: Any) -> None:
            with torch.device("meta"):
                build(self, *given, **named)

        return built

    for kind, build in own.items():
        kind.__init__ = on_meta(build)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for kind, build in own.items():
            kind.__init__ = build  # type: ignore[method-assign]


def training_step(model: Any, batch: Batch) -> Step:
    """Of a model that was built ``weightless``, on a batch of IMAGES or any even number. The model is of no use afterwards."""
    trained = sum(part.numel() for part in model.parameters() if part.requires_grad)
    frozen = sum(part.numel() for part in model.parameters()) - trained
    for network in _networks(model):
        network.forward = _Shadow(network)  # type: ignore[method-assign]

    def loss(seen: Batch) -> Tensor:
        total: Tensor = model.loss(seen, Keys(0, seen.ordinals)).total.sum()
        return total

    weights, part = [*model.parameters(), *model.buffers()], batch[: len(batch) // 2]
    with torch.enable_grad():
        kept, less = (kept_bytes(lambda: loss(seen), weights) for seen in (batch, part))  # noqa: B023
        forward = operations(lambda: loss(batch))
        training = operations(lambda: loss(batch).backward())
    each = (kept - less) // (len(batch) - len(part))
    return Step(trained, frozen, forward // len(batch), training // len(batch), each, less - each * len(part))


def drawing(model: Any, batch: Batch) -> Draw:
    """Of a sample for what the batch's one image is asked for, of a model that was built ``weightless``.

    The number of its steps must not depend on the images, as that of an adaptive solver does.
    """
    return tallied(model, lambda: model.sample(Keys(0, batch.ordinals), _asked(model, batch)))


def tallied(model: nn.Module, run: Callable[[], Any]) -> Draw:
    """Of a run without training for one image. Its networks may see it in a block of many: an image's share counts."""
    model.eval().requires_grad_(False)
    tallies = []
    for network in _networks(model):
        network.forward = tally = _Tally(network)  # type: ignore[method-assign]
        tallies.append((network, tally))
    with torch.no_grad():
        run()
    calls = sum(tally.calls for network, tally in tallies if isinstance(network, NETWORKS))
    return Draw(calls, sum(tally.operations for _, tally in tallies))


def _asked(model: Any, batch: Batch) -> Any:
    return model.condition(batch) if isinstance(model, Conditioned) else batch.labels


def _networks(module: nn.Module) -> Iterator[nn.Module]:
    """Those of KINDS that are in no other one."""
    if isinstance(module, KINDS):
        yield module
        return
    for child in module.children():
        yield from _networks(child)


class _Shadow:
    """A network's forward pass: its inputs' shapes go through the network, zeros come back, and gradients likewise."""

    def __init__(self, network: nn.Module) -> None:
        self.run = network.to("meta").forward

    def __call__(self, *inputs: Any) -> Tensor:
        flat, spec = tree_flatten(inputs)
        learns = torch.is_grad_enabled()
        # weights are no inputs here: what depends on them says so by a number that has a gradient
        anchor = torch.zeros((), requires_grad=learns)
        out: Tensor = _Through.apply(lambda *given: self.run(*tree_unflatten(given, spec)), learns, anchor, *flat)  # type: ignore[no-untyped-call]
        return out


class _Through(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, run: Callable[..., Tensor], learns: bool, anchor: Tensor, *inputs: Any) -> Tensor:
        given = [_meta(value) for value in inputs]
        with torch.set_grad_enabled(learns):
            ctx.inner = run(*given)
        ctx.wanted = [value if isinstance(value, Tensor) and value.requires_grad else None for value in given]
        out = torch.zeros(ctx.inner.shape, dtype=ctx.inner.dtype)
        if not ctx.inner.requires_grad:
            ctx.mark_non_differentiable(out)
        return out

    @staticmethod
    def backward(ctx: Any, *slopes: Any) -> Any:
        torch.autograd.backward(ctx.inner, torch.empty_like(ctx.inner))
        found = (None if value is None else torch.zeros(value.shape, dtype=value.dtype) for value in ctx.wanted)
        return None, None, None, *found


class _Tally:
    """A network's forward pass: zeros come back, calls and what they would take an image are added up. Inputs of shapes
    that it has met are not run again."""

    def __init__(self, network: nn.Module) -> None:
        self.run = network.to("meta").forward
        self.calls = self.operations = 0
        self.met: dict[Any, tuple[int, Tensor]] = {}

    def __call__(self, *inputs: Any) -> Tensor:
        flat, spec = tree_flatten(inputs)
        led = [value for value in flat if isinstance(value, Tensor) and value.requires_grad]
        shapes = tuple((tuple(v.shape), v.dtype, v.requires_grad) if isinstance(v, Tensor) else v for v in flat)
        if shapes not in self.met:
            self.met[shapes] = self._met([_meta(value) for value in flat], spec)
        each, out = self.met[shapes]
        self.calls, self.operations = self.calls + 1, self.operations + each // len(inputs[0])
        # a guiding gradient asks for the way back to the image
        return torch.zeros(out.shape, dtype=out.dtype) + sum((0 * value).sum() for value in led)

    def _met(self, given: list[Any], spec: Any) -> tuple[int, Tensor]:
        kept = []

        def run() -> None:
            out = self.run(*tree_unflatten(given, spec))
            if out.requires_grad:
                torch.autograd.backward(out, torch.empty_like(out))
            kept.append(out.detach())

        return operations(run), kept[0]


def _meta(value: Any) -> Any:
    """A tensor's shape, and whether it is led back to."""
    if not isinstance(value, Tensor):
        return value
    return torch.empty(value.shape, dtype=value.dtype, device="meta", requires_grad=value.requires_grad)
