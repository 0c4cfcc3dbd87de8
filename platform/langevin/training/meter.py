"""What a training reads off between two lines of its log."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from langevin.protocols import Losses
from langevin.training import parallel

WHERE = "time"  # the term that says where training looked, which is no part of the loss


class Meter:
    """Means since the last reading, over all processes: loss, its terms, gradient norm, images/s."""

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(3, dtype=torch.float64, device=device)  # loss, images, norm x images
        self.terms: dict[str, Tensor] = {}
        self.since = time.perf_counter()

    def add(self, losses: Losses, norm: Tensor) -> None:
        total = losses.total.detach()
        n = len(total)
        self.sums += torch.stack([total.sum().double(), total.new_tensor(n).double(), norm.double() * n])
        for name, term in losses.terms.items():
            if name != WHERE:
                self.terms[name] = self.terms.get(name, 0.0) + term.detach().double().sum()

    def read(self) -> dict[str, float]:
        names = sorted(self.terms)  # the same on every process: all take a step or none does
        sums = torch.cat([self.sums, torch.stack([self.terms[name] for name in names])]) if names else self.sums
        loss, images, norm, *terms = parallel.summed(sums).tolist()
        now = time.perf_counter()
        rate = images / (now - self.since)
        self.sums, self.terms, self.since = torch.zeros_like(self.sums), {}, now
        count = max(images, 1)
        means = {name: term / count for name, term in zip(names, terms, strict=True)}
        return {**means, "loss": loss / count, "gradient_norm": norm / count, "images_per_second": rate}
