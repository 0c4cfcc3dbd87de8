"""How fast each recipe trains in one process: images a second of the whole loop, and the minutes which that makes.

    .venv/bin/python tests/benchmarks/training_rates.py pipelines/recipes/*-digits.yaml

The data must be prepared (`langevin prepare RECIPE`). Every recipe goes 20 batches to warm up and 150 that count, on all
cores; checkpoints and validation are left out. Prints a table; writes nothing.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from langevin.cluster.session import cpus
from langevin.cluster.worker import begun, plan_of
from langevin.config.load import load_recipe
from langevin.config.paths import within_home
from langevin.data.manifest import Manifest
from langevin.data.reader import Reader
from langevin.training.loop import fit
from langevin.training.state import TrainState

WARM, COUNTED = 20, 150


class Silent:
    """An observer of nothing."""

    def log(self, images: int, metrics: dict[str, float]) -> None: ...
    def skipped(self, images: int, ordinals: list[int]) -> None: ...
    def validate(self, state: TrainState) -> None: ...
    def snapshot(self, state: TrainState) -> None: ...
    def checkpoint(self, state: TrainState) -> None: ...


def row(path: Path) -> str:
    """One recipe's line of the table."""
    recipe = load_recipe(path)
    root = within_home(recipe.data.root)
    state, plan = begun(recipe, Manifest.load(root)), plan_of(recipe)
    batches = iter(Reader(root, "train", recipe.seed, plan.batch))
    fit(state, batches, replace(plan, images=WARM * plan.batch), Silent())
    began = time.perf_counter()
    fit(state, batches, replace(plan, images=(WARM + COUNTED) * plan.batch), Silent())
    rate = COUNTED * plan.batch / (time.perf_counter() - began)
    count = sum(parameter.numel() for parameter in state.model.parameters())
    return f"| {recipe.name} | {count:,} | {rate:.0f} | {plan.images:,} | {plan.images / rate / 60:.1f} |"


def main() -> None:
    torch.set_num_threads(cpus())
    print("| recipe | parameters | images / s | images | minutes |\n|---|---|---|---|---|")
    for name in sys.argv[1:]:
        print(row(Path(name)), flush=True)


if __name__ == "__main__":
    main()
