"""How much faster a latent model trains than the same network on the pixels themselves: images a second, by turns.

    .venv/bin/python tests/benchmarks/latents_against_pixels.py [pipelines/recipes/ldm-shapes.yaml] [--threads 1]

On pixels it goes without attention, whose cost would grow with the square of their number: in the pixels' favour. The
recipe's data, codec and latents must be there (its pipeline makes them). Slices of a few steps by turns, so that what else
the machine does meets both; checkpoints and validation are left out. Prints medians and the median of the pairs' ratios.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from training_rates import Silent

from langevin.cluster.worker import begun, plan_of
from langevin.config.load import load_recipe
from langevin.config.paths import within_home
from langevin.config.recipe import Recipe
from langevin.data.manifest import Manifest
from langevin.data.reader import Reader
from langevin.training.loop import fit

PAIRS, STEPS = 5, {"latents": 20, "pixels": 2}


class Run:
    """A training that goes on slice by slice."""

    def __init__(self, recipe: Recipe, steps: int) -> None:
        self.plan, self.steps = plan_of(recipe), steps
        self.state = begun(recipe, Manifest.load(within_home(recipe.data.root)))
        self.batches = iter(Reader(within_home(recipe.training_root), "train", recipe.seed, self.plan.batch))

    def rate(self) -> float:
        """Images a second of the next slice."""
        images = self.steps * self.plan.batch
        began = time.perf_counter()
        fit(self.state, self.batches, replace(self.plan, images=self.state.images + images), Silent())
        return images / (time.perf_counter() - began)


def by_turns(runs: dict[str, Run], rounds: int) -> None:
    """Slices of two runs by turns; prints the median rates and the median of the first's to the second's."""
    for run in runs.values():
        run.rate()  # to warm up
    pairs = [[run.rate() for run in runs.values()] for _ in range(rounds)]
    for name, rates in zip(runs, zip(*pairs, strict=True), strict=True):
        print(f"{name}: {median(rates):.1f} images / s")
    print(f"ratio: {median(one / other for one, other in pairs):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe", nargs="?", type=Path, default=Path("pipelines/recipes/ldm-shapes.yaml"))
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    latent = load_recipe(given.recipe)
    network = latent.model.network.model_copy(update={"attention": ()})  # type: ignore[union-attr]
    pixels = latent.model_copy(update={"latents": None, "model": latent.model.model_copy(update={"network": network})})
    runs = {name: Run(recipe, STEPS[name]) for name, recipe in (("latents", latent), ("pixels", pixels))}
    by_turns(runs, PAIRS)


if __name__ == "__main__":
    main()
