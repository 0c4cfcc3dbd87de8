"""How much faster a recipe trains in bf16 than in float32: images a second, by turns.

    .venv/bin/python tests/benchmarks/precisions.py RECIPE [--threads 1]

The recipe's data must be there, and its latents where it has some. Slices of a few steps by turns, as in
latents_against_pixels.py. On a CPU it is a gain where the CPU multiplies in bf16 (avx512_bf16, AMX), else a loss.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from latents_against_pixels import Run, by_turns

from langevin.config.load import load_recipe

ROUNDS, STEPS = 9, 10


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    recipe = load_recipe(given.recipe)
    trained = {precision: recipe.train.model_copy(update={"precision": precision}) for precision in ("bf16", "fp32")}
    by_turns({name: Run(recipe.model_copy(update={"train": train}), STEPS) for name, train in trained.items()}, ROUNDS)


if __name__ == "__main__":
    main()
