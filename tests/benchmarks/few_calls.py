"""How few network calls do: one trained model sampled in several ways, judged alike.

    .venv/bin/python tests/benchmarks/few_calls.py [RECIPE]

The recipe (default: ddpm-digits) must be trained and evaluated once (`make run`). Prints a table; writes nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from langevin.config.load import load_recipe
from langevin.config.paths import home
from langevin.config.recipe import Recipe
from langevin.config.sampling import Sample
from langevin.evaluation.suite import evaluate_samples
from langevin.stages.evaluator import Evaluator, network_calls
from langevin.stages.outputs import Outputs, read_json
from langevin.stages.progress import Stage
from langevin.training import checkpoint as checkpoints

SETTINGS = [
    Sample(sampler="ancestral", steps=250),
    Sample(sampler="ddim", steps=18),
    Sample(sampler="dpm_solver", steps=18),
    Sample(sampler="dpm_solver", steps=18, eta=1.0),
    Sample(sampler="heun", steps=9, grid="karras"),
]


def row(recipe: Recipe, sample: Sample) -> str:
    """One setting's line of the table."""
    evaluator = Evaluator(recipe.model_copy(update={"sample": sample}))
    folder = home() / read_json(Outputs.of(recipe).training, "train")["checkpoint"]
    model, count = evaluator.model(checkpoints.read(folder)), recipe.evaluate.images
    name = f"{sample.sampler}, {sample.steps} steps" + (f", eta {sample.eta:g}" if sample.eta else "")
    name += f", {sample.grid}" if sample.grid else ""
    with Stage(name, count) as stage:
        samples = evaluator.images(model, count, stage)
    figures = evaluate_samples(
        samples, evaluator.labels[:count], evaluator.test, evaluator.train, evaluator.extractor, evaluator.judge,
        recipe.evaluate.seed,
    )  # fmt: skip
    fid, seen = figures["fid"], figures["recognised"]
    return (
        f"| {name} | {network_calls(model, evaluator.asked[:1])} | {fid.value:.3f} [{fid.low:.3f}, {fid.high:.3f}] | "
        f"{figures['kid'].value:.4f} | {seen.value:.1%} |"
    )


def main() -> None:
    torch.set_num_threads(1)  # batches are what runs side by side
    recipe = load_recipe(Path(sys.argv[1] if len(sys.argv) > 1 else "pipelines/recipes/ddpm-digits.yaml"))
    print("| sampled by | calls | FID | KID | recognised |\n|---|---|---|---|---|")
    for sample in SETTINGS:
        print(row(recipe, sample), flush=True)


if __name__ == "__main__":
    main()
