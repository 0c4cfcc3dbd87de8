"""Every method as a recipe would have it, small, with random weights everywhere: not trained, but no longer zero."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from langevin.config.checks import check_sampling, check_task
from langevin.config.model import MODEL
from langevin.config.parts import Task
from langevin.config.sampling import Bound, Sample
from langevin.config.table import METHODS
from langevin.protocols import Batch

SHAPE, CLASSES, LEVELS = (1, 8, 8), 10, 17
TASK = Task(SHAPE, CLASSES, LEVELS)
NETWORK = {"channels": 8, "multipliers": [1, 2], "blocks": 1, "attention": [4]}
CHAIN = {"steps": 30, "calls": 6}
VE = {"kind": "chain", "steps": 30, "calls": 6, "last": 5e-4}

# name: the sections model, sample and bound
EXAMPLES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "ddpm": ({"prediction": "velocity"}, {}, CHAIN),
    "improved_ddpm": ({"times": "loss_aware"}, {"sampler": "ancestral"}, CHAIN),
    "guided": ({"prediction": "velocity", "classifier": NETWORK}, {"sampler": "ancestral"}, CHAIN),
    "ncsn": ({"levels": 5}, {"sampler": "annealed_langevin", "corrector_steps": 2}, {"steps": 5, "calls": 4, "last": 1e-9}),
    "ncsnv2": (
        {"levels": 5, "sigma_max": 12.0}, {"sampler": "annealed_langevin", "corrector_steps": 2},
        {"steps": 5, "calls": 4, "last": 1e-9},
    ),
    "score_sde": ({}, {"sampler": "predictor_corrector", "last": 1e-3}, CHAIN),
    "score_sde ve": ({"schedule": {"name": "ve"}}, {"sampler": "predictor_corrector"}, CHAIN | {"last": 0.2}),
    "score_sde subvp": ({"schedule": {"name": "subvp"}}, {"sampler": "euler_maruyama", "last": 1e-3}, CHAIN),
    "cld": ({}, {"sampler": "sscs", "last": 1e-3}, {"kind": "flow", "calls": 8}),
    "edm": ({}, {"sampler": "heun", "grid": "karras"}, VE),
    "edm2": ({}, {"sampler": "heun", "grid": "karras"}, VE),
    "vdm": ({"fourier": [3, 4]}, {"sampler": "ddim", "eta": 1.0}, {"kind": "continuous", "calls": 6}),
    "rectified": ({}, {"sampler": "heun"}, CHAIN),
}  # fmt: skip


def made(
    name: str,
    model: dict[str, Any] | None = None,
    sample: dict[str, Any] | None = None,
    bound: dict[str, Any] | None = None,
    **more: Any,
) -> Any:
    """The example with changes to its fields, as the recipe's checks let it through. sample: in the place of its own,
    with 5 steps; more: fields of its own sample section to change."""
    its_model, its_sample, its_bound = EXAMPLES[name]
    of_model = MODEL.validate_json(
        json.dumps({"method": name.split()[0], "network": NETWORK, **its_model, **(model or {})})
    )
    of_sample = Sample.model_validate_json(
        json.dumps({"steps": 5, **(its_sample if sample is None else sample), **more})
    )
    of_bound = Bound.model_validate_json(json.dumps(its_bound if bound is None else bound))
    check_sampling(of_model, of_sample, of_bound, None)
    check_task(of_model, of_sample, TASK)
    torch.manual_seed(0)
    method = METHODS[of_model.method](of_model, of_sample, of_bound, TASK)
    with torch.no_grad():
        for parameter in method.parameters():
            if not parameter.any():
                parameter.copy_(0.1 * torch.randn(parameter.shape))
    return method


def batch(start: int, stop: int) -> Batch:
    ordinals = torch.arange(start, stop)
    images = torch.randint(0, LEVELS, (1000, *SHAPE), generator=torch.Generator().manual_seed(1))[start:stop]
    return Batch(images / 8 - 1, ordinals % 10, ordinals, tuple(map(str, range(start, stop))))


def many(count: int, images: Callable[[torch.Generator], Tensor] | None = None) -> Batch:
    """So many labelled images: grey ones, or those that are drawn."""
    drawn = images(torch.Generator().manual_seed(2)) if images else torch.zeros(count, *SHAPE)
    return Batch(drawn, torch.arange(count) % CLASSES, torch.arange(count), tuple(map(str, range(count))))


class Recorder(nn.Module):
    """A network that writes down what it was told, and says 0."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.channels = channels
        self.told: list[tuple[Tensor, Tensor, Tensor | None]] = []

    def forward(self, x: Tensor, noise: Tensor, cond: Tensor | None) -> Tensor:
        self.told.append((x.detach(), noise.detach(), cond))
        return (0 * x[:, :1]).expand(-1, self.channels, -1, -1)


def recording(method: Any) -> Recorder:
    """The recorder that now stands in the place of the method's network."""
    holder = method.denoiser if hasattr(method, "denoiser") else method.model
    before = holder.network
    with torch.no_grad():
        channels = before(*_arguments(method), None).shape[1]
    holder.network = Recorder(channels)
    return holder.network


def _arguments(method: Any) -> tuple[Tensor, Tensor]:
    pairs = 1 if hasattr(method, "denoiser") else 2  # positions and velocities
    return torch.zeros(1, pairs * SHAPE[0], *SHAPE[1:]), torch.zeros(1)
