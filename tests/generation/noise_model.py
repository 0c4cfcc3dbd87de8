"""A model whose images are its noise: enough to see whose bytes land where."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

from langevin.generation.ledger import done, finish
from langevin.generation.plan import Request, units
from langevin.generation.writer import write_unit
from langevin.randomness import Keys, Noise


class NoiseModel:
    """Told classes it adds a tenth of their number, told captions a hundredth of their first letter's."""

    def __init__(self, pause_s: float = 0.0) -> None:
        self.pause_s = pause_s

    def sample(self, keys: Keys, cond: torch.Tensor) -> torch.Tensor:
        time.sleep(self.pause_s)
        noise = Noise(keys).normal("image", torch.empty(len(keys), 1, 4, 4))
        told = cond / 10 if cond.ndim == 1 else cond[:, 0] / 100
        return (noise + told[:, None, None, None]).clamp(-1, 1)


def request(**changes: object) -> Request:
    values = {
        "model": "models:/noise/7",
        "checkpoint_sha256": "ab" * 32,
        "dataset_digest": "cd" * 16,
        "classes": ("zero", "one", "two"),
        "levels": 17,
        "labels": "balanced",
        "n": 50,
        "seed": 5,
        "unit": 8,
        "sampling": {"steps": 1},
    }
    return Request(**(values | changes))  # type: ignore[arg-type]


PROMPTS = ("ein roter Würfel", "7", "青い立方体")


def run(folder: Path, pause_s: float = 0.0, **changes: object) -> dict[str, object]:
    asked, model = request(**changes), NoiseModel(pause_s)
    finished = done(folder, asked)
    for unit in units(asked):
        if unit.index not in finished:
            write_unit(unit, asked, model, folder)
    return finish(folder, asked)


if __name__ == "__main__":
    run(Path(sys.argv[1]), pause_s=0.05, prompts=tuple(sys.argv[2:]) or None)
