"""What a network costs before anybody pays for it: parameters, arithmetic, memory, hours."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

BACKWARD = 2  # gradients of the inputs and of the weights: two products for each one of the forward pass


@dataclass(frozen=True)
class Cost:
    """parameters: trained numbers; forward: floating-point operations of matrix products and convolutions, an image, where
    a multiplication and an addition are two; activations: bytes an image that wait for the backward pass.
    """

    parameters: int
    forward: int
    activations: int

    @property
    def training(self) -> int:
        """Operations an image of a training step: forward and backward."""
        return (1 + BACKWARD) * self.forward


def cost(network: nn.Module, *inputs: Any) -> Cost:
    """Of the network on example inputs (B, ...), the first a tensor; tuples of tensors and None are inputs too.

    Nothing is computed and no weight is copied: the network runs on the meta device, whatever it lies on, so one that was built
    under ``torch.device("meta")`` is priced without its memory. RuntimeError (or NotImplementedError) where its forward
    pass decides by values, which meta tensors lack: use ``cost_as_is`` there.
    """
    weights = {name: _meta(tensor) for name, tensor in _state(network)}
    return _cost(
        lambda *given: functional_call(network, weights, given), network, weights, tree_map_only(Tensor, _meta, inputs)
    )


def cost_as_is(network: nn.Module, *inputs: Any) -> Cost:
    """The same by running it where it lies."""
    return _cost(network, network, dict(_state(network)), inputs)


def _cost(run: Callable[..., Any], network: nn.Module, weights: Mapping[str, Tensor], inputs: tuple[Any, ...]) -> Cost:
    images = len(inputs[0])
    parameters = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    kept = kept_bytes(lambda: run(*inputs), weights.values())
    with torch.no_grad():
        forward = operations(lambda: run(*inputs))
    return Cost(parameters, forward // images, kept // images)


def operations(run: Callable[[], Any]) -> int:
    """Of the matrix products and convolutions of a run, those of a backward pass in it too, on whatever device."""
    # fused attention has no formula on the CPU; written out, its two products count as what they are, on any device
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        run()
    return int(counter.get_total_flops())


def kept_bytes(run: Callable[[], Any], weights: Iterable[Tensor]) -> int:
    """Bytes of the distinct storages that autograd saves in a run, but for those of weights. run: returns what holds them."""
    own = {_place(tensor) for tensor in weights}
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if _place(tensor) not in own:
            saved[_place(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor), _FusedAttention(), torch.enable_grad():
        out = run()  # held while counting: it keeps the graph, and so no storage is freed and its place reused
        total = sum(saved.values())
    del out
    return total


class _Fused(torch.autograd.Function):
    """Attention that keeps what fused kernels keep: q, k, v, the output and a logarithm a query, never the N x N shares."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        # fused kernels lay their output token by token, all heads of one together, whatever runs here
        out = scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).contiguous().transpose(1, 2)
        ctx.save_for_backward(q, k, v, mask, out, q.new_empty(q.shape[:-1], dtype=torch.float32))
        return out


class _FusedAttention(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is scaled_dot_product_attention and len(args) <= 4 and not kwargs:
            return _Fused.apply(*args)  # type: ignore[no-untyped-call]
        return func(*args, **(kwargs or {}))


def _state(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return itertools.chain(network.named_parameters(), network.named_buffers())


def _meta(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, device="meta", requires_grad=tensor.requires_grad)


def _place(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)  # meta storages have no address of their data


@dataclass(frozen=True)
class Memory:
    """Bytes on one worker of a data-parallel run. Adam keeps two moments of every weight, an average one more copy."""

    weights: int
    gradients: int
    moments: int
    averages: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.moments + self.averages + self.activations


@dataclass(frozen=True)
class GPU:
    """peaks: operations a second by number format, dense (no sparsity); memory: bytes."""

    peaks: Mapping[str, float]
    memory: int


# NVIDIA's data sheets. Tensor cores' rates, but for fp32; bf16 and fp16 with sums in fp32; a GB is 10^9 bytes. H100, H200
# and V100 as SXM modules. Where the sheet gives the rate with sparsity only, half of it.
GPUS: Mapping[str, GPU] = {
    "A100-40": GPU({"bf16": 312e12, "fp16": 312e12, "tf32": 156e12, "fp32": 19.5e12}, 40 * 10**9),
    "A100-80": GPU({"bf16": 312e12, "fp16": 312e12, "tf32": 156e12, "fp32": 19.5e12}, 80 * 10**9),
    "H100": GPU({"bf16": 989.5e12, "fp16": 989.5e12, "tf32": 494.5e12, "fp32": 67e12}, 80 * 10**9),
    "H200": GPU({"bf16": 989.5e12, "fp16": 989.5e12, "tf32": 494.5e12, "fp32": 67e12}, 141 * 10**9),
    "L4": GPU({"bf16": 121e12, "fp16": 121e12, "tf32": 60e12, "fp32": 30.3e12}, 24 * 10**9),
    "A10G": GPU({"bf16": 70e12, "fp16": 70e12, "tf32": 35e12, "fp32": 35e12}, 24 * 10**9),
    "RTX 4090": GPU({"bf16": 165.2e12, "fp16": 165.2e12, "tf32": 82.6e12, "fp32": 82.6e12}, 24 * 10**9),
    "V100": GPU({"fp16": 125e12, "fp32": 15.7e12}, 32 * 10**9),
    "T4": GPU({"fp16": 65e12, "fp32": 8.1e12}, 16 * 10**9),
}
