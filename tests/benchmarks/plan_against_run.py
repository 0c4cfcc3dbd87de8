"""The plan of a recipe (`langevin show RECIPE --plan`) against its training on this machine.

    .venv/bin/python tests/benchmarks/plan_against_run.py FIRST.yaml OTHER.yaml ...

The first recipe is trained for a moment, which tells how many of the plan's operations this machine does in a second: its
utilisation. From that and the plan the others' images a second are predicted, and then they are trained, too. Rates are of
the whole loop (read, loss, gradient, step, average) in this process on one thread, in images a second of its CPU time, in
rounds of all recipes by turns, so that whatever else the machine does meets each of them; the median round counts.
Activations: what the allocator says a forward pass has left, against the plan's. Data sets are prepared in a folder of their
own, which goes again. Prints a table; asserts nothing.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch.profiler import ProfilerActivity, profile

from langevin.cluster.worker import begun, plan_of
from langevin.config.load import load_recipe
from langevin.config.paths import within_home
from langevin.data.manifest import Manifest
from langevin.data.reader import Reader
from langevin.protocols import Batch, Trainable
from langevin.randomness import Keys
from langevin.stages.plan import Priced
from langevin.stages.prepare import ensure
from langevin.training.loop import Plan, fit
from langevin.training.state import TrainState

ROUNDS, SECONDS = 7, 8.0  # of each recipe: so many rounds of about so long


class Silent:
    """An observer of nothing."""

    def log(self, images: int, metrics: dict[str, float]) -> None: ...
    def skipped(self, images: int, ordinals: list[int]) -> None: ...
    def validate(self, state: TrainState) -> None: ...
    def snapshot(self, state: TrainState) -> None: ...
    def checkpoint(self, state: TrainState) -> None: ...


@dataclass
class Run:
    """A recipe in training, with its plan."""

    priced: Priced
    state: TrainState
    batches: Iterator[Batch]
    plan: Plan
    rates: list[float]

    @classmethod
    def of(cls, path: Path) -> Run:
        recipe = load_recipe(path)
        ensure(recipe)
        root = within_home(recipe.data.root)
        state, plan = begun(recipe, Manifest.load(root)), plan_of(recipe)
        return cls(Priced(recipe, path), state, iter(Reader(root, "train", recipe.seed, plan.batch)), plan, [])

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    def train(self, steps: int) -> float:
        """Images a CPU second over so many steps."""
        images = steps * self.plan.batch
        plan, began = replace(self.plan, images=self.state.images + images), time.process_time()
        fit(self.state, self.batches, plan, Silent())
        return images / (time.process_time() - began)

    def left(self) -> float:
        """Bytes an image that a forward pass leaves allocated, by the allocator's own account."""
        batch = next(self.batches)
        keys, model = Keys(self.plan.seed, batch.ordinals), cast(Trainable, self.state.model)
        model.loss(batch, keys)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
            losses = model.loss(batch, keys)
        total = sum(event.self_cpu_memory_usage for event in profiled.events())
        del losses
        return total / len(batch)


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as home:
        os.environ["LANGEVIN_HOME"] = home
        runs = [Run.of(Path(name)) for name in sys.argv[1:]]
        steps = [max(1, round(SECONDS * run.train(3) / run.plan.batch)) for run in runs]  # which warms up, too
        for _ in range(ROUNDS):
            for run, count in zip(runs, steps, strict=True):
                run.rates.append(run.train(count))
        report(runs)


def report(runs: list[Run]) -> None:
    speed = runs[0].rate * runs[0].priced.step.training
    print(f"one thread, {speed / 1e9:.1f} GFLOP a CPU second in training {runs[0].priced.recipe.name}\n")
    print(
        "| recipe | parameters | MFLOP an image | images / CPU s | predicted | predicted / measured | activations, kB | planned |"
    )
    print("|---" * 8 + "|")
    for run in runs:
        step = run.priced.step
        planned = step.activations + step.fixed / run.plan.batch
        predicted = speed / step.training
        print(f"| {run.priced.recipe.name} | {step.trained:,} | {step.training / 1e6:.1f} | {run.rate:.1f} | {predicted:.1f} | "
              f"{predicted / run.rate:.2f} | {run.left() / 1e3:.0f} | {planned / 1e3:.0f} |")  # fmt: skip


if __name__ == "__main__":
    main()
