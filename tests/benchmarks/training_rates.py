"""How fast each recipe trains in one process: images a second of the whole loop, and the minutes which that makes.

    .venv/bin/python tests/benchmarks/training_rates.py pipelines/recipes/*-digits.yaml [--threads 2] [--batches 150]

The data must be prepared (`langevin prepare RECIPE`). Every recipe goes 20 batches to warm up and 150 that count; checkpoints
and validation are left out. CPU minutes are those of the process, whatever else the machine does. Prints a table.
"""

from __future__ import annotations

import argparse
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

WARM = 20


class Silent:
    """An observer of nothing."""

    def log(self, images: int, metrics: dict[str, float]) -> None: ...
    def skipped(self, images: int, ordinals: list[int]) -> None: ...
    def validate(self, state: TrainState) -> None: ...
    def snapshot(self, state: TrainState) -> None: ...
    def checkpoint(self, state: TrainState) -> None: ...


def row(path: Path, counted: int) -> str:
    """One recipe's line of the table."""
    recipe = load_recipe(path)
    state, plan = begun(recipe, Manifest.load(within_home(recipe.data.root))), plan_of(recipe)
    batches = iter(Reader(within_home(recipe.training_root), "train", recipe.seed, plan.batch))
    fit(state, batches, replace(plan, images=WARM * plan.batch), Silent())
    began, spent = time.perf_counter(), time.process_time()
    fit(state, batches, replace(plan, images=(WARM + counted) * plan.batch), Silent())
    rate, cpu_rate = (
        counted * plan.batch / seconds for seconds in (time.perf_counter() - began, time.process_time() - spent)
    )
    count = sum(parameter.numel() for parameter in state.model.parameters())
    minutes, cpu_minutes = plan.images / rate / 60, plan.images / cpu_rate / 60
    return f"| {recipe.name} | {count:,} | {rate:.0f} | {plan.images:,} | {minutes:.1f} | {cpu_minutes:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("recipes", nargs="+", type=Path)
    parser.add_argument("--threads", type=int, default=cpus())
    parser.add_argument("--batches", type=int, default=150)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    print("| recipe | parameters | images / s | images | minutes | CPU minutes |\n|---|---|---|---|---|---|")
    for path in asked.recipes:
        print(row(path, asked.batches), flush=True)


if __name__ == "__main__":
    main()
