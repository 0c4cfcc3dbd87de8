"""All that a training is, at one moment: what a checkpoint holds and a resumed run goes on from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from langevin.training.ema import EMA, PowerEMA


@dataclass
class TrainState:
    """model: raw weights; ema: their classic average; optimiser: AdamW's moments; images: seen so far, over all workers;
    powers: their power-function averages, of different std, the first of which serves in the classic one's place.
    """

    model: nn.Module
    ema: EMA
    optimiser: torch.optim.Optimizer
    images: int = 0
    powers: tuple[PowerEMA, ...] = ()

    @property
    def serving(self) -> nn.Module:
        """The averaged weights that sample, are validated and are evaluated."""
        return self.powers[0].model if self.powers else self.ema.model

    def update_averages(self) -> None:
        """After a step, when ``images`` counts it."""
        self.ema.update(self.model)
        for power in self.powers:
            power.update(self.model, self.images)

    def tensors(self) -> dict[str, Tensor]:
        """Every number of the state under one flat name, for a file that holds tensors only."""
        named = {f"model/{name}": value for name, value in self.model.state_dict().items()}
        named |= {f"ema/{name}": value for name, value in self.ema.model.state_dict().items()}
        for power in self.powers:
            named |= {f"power/{power.std}/{name}": value for name, value in power.model.state_dict().items()}
        for index, moments in self.optimiser.state_dict()["state"].items():
            named |= {f"optimiser/{index}/{name}": value for name, value in moments.items()}
        counters = {"images": self.images, "ema_updates": self.ema.updates}
        counters |= {f"power/{power.std}": power.images for power in self.powers}
        return named | {f"counters/{name}": torch.tensor(value) for name, value in counters.items()}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of ``tensors``. KeyError and RuntimeError where they are of another architecture."""
        self.model.load_state_dict(_below(tensors, "model/"))
        self.ema.model.load_state_dict(_below(tensors, "ema/"))
        for power in self.powers:
            power.model.load_state_dict(_below(tensors, f"power/{power.std}/"))
            power.images = int(tensors[f"counters/power/{power.std}"])
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _below(tensors, "optimiser/").items():
            index, moment = name.split("/")
            moments.setdefault(int(index), {})[moment] = value
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": moments, "param_groups": groups})
        self.images = int(tensors["counters/images"])
        self.ema.updates = int(tensors["counters/ema_updates"])


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
