"""Our recipe against diffusers: the same images, the same CPU seconds, and one judge for both. See README.md."""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from contenders import Row, alternate, network_calls, run_ours, run_peer
from peer import TUTORIAL_RATE

from langevin.config.load import load_recipe
from langevin.config.recipe import Recipe
from langevin.stages.extractor import make_extractor
from langevin.stages.prepare import prepare

RECIPE = Path(__file__).parents[2] / "pipelines" / "recipes" / "ddpm-digits.yaml"


def compete(recipe: Recipe, threads: int, slices: int, steps: int) -> dict[str, Any]:
    """The whole benchmark: a process for each contender, as many at once as there are CPUs for their threads."""
    at_once = max(1, len(os.sched_getaffinity(0)) // threads)
    images, our_rate = recipe.train.images, recipe.train.lr
    peer = partial(run_peer, recipe, threads)
    with ProcessPoolExecutor(at_once, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        speed = pool.submit(alternate, recipe, threads, slices, steps).result()  # with nothing of ours beside it
        first = pool.submit(run_ours, recipe, threads)
        second = pool.submit(peer, "diffusers, same images", images, TUTORIAL_RATE, ("leading",))
        tuned = pool.submit(
            peer, "diffusers at our learning rate, same images", images, our_rate, ("leading", "trailing")
        )
        ours, theirs = first.result()[0], second.result()[0]
        affordable = max(1, round(ours.training.cpu_s * theirs.training.per_cpu_second))
        third = pool.submit(peer, "diffusers, same CPU seconds", affordable, TUTORIAL_RATE, ("leading",))
        rows = [ours, theirs, *third.result(), *tuned.result()]
    return {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "threads": threads,
        "network_calls": network_calls(recipe),
        "samples": recipe.evaluate.images,
        "versions": {"python": platform.python_version()} | {n: version(n) for n in ("langevin", "torch", "diffusers")},
        "speed": speed,
        "rows": [row.to_json() for row in rows],
        "ratios": {row.name: _ratios(ours, row) for row in rows[1:]},
    }


def _ratios(ours: Row, theirs: Row) -> dict[str, float]:
    """fid above 1: theirs is that much worse; images_per_cpu_second above 1: ours is that much faster."""
    return {
        "fid": theirs.figures["fid"].value / ours.figures["fid"].value,
        "images_per_cpu_second": ours.training.per_cpu_second / theirs.training.per_cpu_second,
        "parameters": theirs.parameters / ours.parameters,
    }


def markdown(result: dict[str, Any]) -> str:
    """The result as people read it: the contenders, the ratios, the speed by turns."""
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    lines = [
        f"Recipe {result['recipe']}, seed {result['seed']}, {result['threads']} thread(s) a contender, "
        f"{result['samples']:,} samples at {result['network_calls']} network calls each; {versions}.",
        "",
        "| contender | parameters | images | lr | CPU s | images/CPU s | FID | FID / floor | recognised | NLL, bits/dim |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(_line(row) for row in result["rows"]),
        "",
        "| against | their FID / ours | our images/CPU s / theirs |",
        "|---|---|---|",
    ]
    for name, ratios in result["ratios"].items():
        lines.append(f"| {name} | {ratios['fid']:.2f} | {ratios['images_per_cpu_second']:.2f} |")
    speed = result["speed"]
    lines += ["", f"Training images/s, {speed['slices']} slices of {speed['steps']} steps by turns, medians:", ""]
    for clock, unit in (("wall", "second"), ("cpu", "CPU second")):
        of = speed[clock]
        rates = f"langevin {of['langevin']:.0f}, diffusers {of['diffusers']:.0f}"
        lines.append(f"- a {unit}: {rates}; median ratio of the pairs {of['ratio']:.2f}")
    return "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    training, figures = row["training"], row["figures"]
    fid = figures["fid"]
    cells = [
        row["name"],
        f"{row['parameters']:,}",
        f"{training['images']:,}",
        f"{row['learning_rate']:g}",
        f"{training['cpu_s']:.1f}",
        f"{row['images_per_cpu_second']:.0f}",
        f"{fid['value']:.3g} [{fid['low']:.3g}, {fid['high']:.3g}]",
        f"{figures['fid_ratio']['value']:.2f}",
        f"{figures['recognised']['value']:.1%}",
        f"{figures['nll']['value']:.3f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--images", type=int, help="training images (the recipe's)")
    asked.add_argument("--samples", type=int, help="samples judged (the recipe's)")
    asked.add_argument("--seed", type=int, help="of the trainings (the recipe's)")
    asked.add_argument("--threads", type=int, default=1, help="of each contender's process (1)")
    asked.add_argument("--slices", type=int, default=5, help="timing slices a contender (5)")
    asked.add_argument("--steps", type=int, default=30, help="training steps in a slice (30)")
    asked.add_argument("--out", type=Path, help="where everything goes as JSON")
    given = asked.parse_args()
    recipe = load_recipe(RECIPE)
    train, section = recipe.train, recipe.evaluate
    train = train.model_copy(update={"images": given.images or train.images})
    section = section.model_copy(update={"images": given.samples or section.images})
    seed = recipe.seed if given.seed is None else given.seed
    recipe = recipe.model_copy(update={"train": train, "evaluate": section, "seed": seed})
    with tempfile.TemporaryDirectory(prefix="langevin-benchmark-") as folder:
        os.environ["LANGEVIN_HOME"] = folder
        os.environ["OMP_NUM_THREADS"] = str(given.threads)  # read by the contenders' processes
        prepare(recipe)
        make_extractor(recipe)
        result = compete(recipe, given.threads, given.slices, given.steps)
    if given.out:
        given.out.write_text(json.dumps(result, indent=1) + "\n")
    print(markdown(result))


if __name__ == "__main__":
    main()
