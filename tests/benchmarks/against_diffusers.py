"""Our recipe against diffusers: the same images, then the same CPU seconds, and one judge for both. See README.md.

    python tests/benchmarks/against_diffusers.py [--images N] [--samples N] [--seed N] [--threads N] [--out FILE.json]

A markdown table and the ratios on stdout, the same with all figures as JSON in --out. Nothing outside a temporary folder
is written.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from peer import TUTORIAL_RATE, Peer, Tutorial, schedule, unet

from langevin.config.load import build, load_recipe
from langevin.config.paths import within_home
from langevin.config.recipe import Recipe
from langevin.data.manifest import Manifest
from langevin.data.reader import Reader, read_split
from langevin.diffusion import grids
from langevin.diffusion.variance import Lower
from langevin.evaluation.intervals import Figure
from langevin.methods.ddpm import Bounding
from langevin.stages.evaluate import Evaluator
from langevin.stages.extractor import make_extractor
from langevin.stages.prepare import prepare
from langevin.stages.progress import Stage, say
from langevin.training.ema import EMA
from langevin.training.loop import Plan, fit
from langevin.training.optimiser import LearningRate, adamw
from langevin.training.state import TrainState

RECIPE = Path(__file__).parents[2] / "pipelines" / "recipes" / "ddpm-digits.yaml"
SHOWN = ("fid", "fid_floor", "fid_ratio", "recognised", "nll")
WARM_UP_STEPS = 10


@dataclass(frozen=True)
class Training:
    """What a training took. images: seen; cpu_s: of the process, all threads; wall_s: beside whatever else ran."""

    images: int
    cpu_s: float
    wall_s: float

    @property
    def per_cpu_second(self) -> float:
        return self.images / self.cpu_s


@dataclass(frozen=True)
class Row:
    """A contender as it was trained and judged."""

    name: str
    learning_rate: float
    parameters: int
    training: Training
    figures: dict[str, Figure]

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"images_per_cpu_second": self.training.per_cpu_second}


class Silent:
    """Observes nothing: the peer's loop neither validates nor saves, so here ours does not either."""

    def log(self, images: int, metrics: dict[str, float]) -> None: ...
    def skipped(self, images: int, ordinals: list[int]) -> None: ...
    def validate(self, state: TrainState) -> None: ...
    def checkpoint(self, state: TrainState) -> None: ...


class Ours:
    """The recipe's model in our loop, in one process: what each of the product's workers runs."""

    def __init__(self, recipe: Recipe) -> None:
        root, section = within_home(recipe.data.root), recipe.train
        model = build(recipe, Manifest.load(root))
        optimiser = adamw(model, section.weight_decay, section.betas)
        self.section, self.seed = section, recipe.seed
        self.state = TrainState(model, EMA(model, section.ema_decay), optimiser)
        self.reader = Reader(root, "train", recipe.seed, section.batch)

    def train(self, images: int) -> int:
        """Trains on at least ``images`` more, in whole batches; returns how many there were."""
        section, before = self.section, self.state.images
        plan = Plan(
            images=before + images,
            batch=section.batch,
            seed=self.seed,
            learning_rate=LearningRate(section.lr, section.warmup, section.images),
            gradient_clip=section.gradient_clip,
            log_every=section.log_every,
            validate_every=section.validate_every,
            checkpoint_every=section.checkpoint_every,
        )
        fit(self.state, self.reader, plan, Silent())
        return self.state.images - before


def network_calls(recipe: Recipe) -> int:
    """Of one of our samples."""
    return recipe.sample.steps * (1 if recipe.sample.guidance in (0, 1) else 2)


def tutorial(recipe: Recipe, images: int, rate: float) -> Tutorial:
    root = within_home(recipe.data.root)
    manifest = Manifest.load(root)
    torch.manual_seed(recipe.seed)
    network = unet(manifest.shape, len(manifest.classes))
    return Tutorial(network, read_split(root, "train"), recipe.train.batch, -(-images // recipe.train.batch), rate)


def measured(train: Callable[[int], int], images: int) -> Training:
    cpu, wall = time.process_time(), time.perf_counter()
    seen = train(images)
    return Training(seen, time.process_time() - cpu, time.perf_counter() - wall)


def run_ours(recipe: Recipe, threads: int) -> list[Row]:
    torch.set_num_threads(threads)
    ours = Ours(recipe)
    training = measured(ours.train, recipe.train.images)
    say(f"langevin: {training.images:,} images in {training.cpu_s:.0f} CPU s")
    return [judged(recipe, "langevin", recipe.train.lr, ours.state.ema.model, ours.state.model, training)]


def run_peer(recipe: Recipe, threads: int, name: str, images: int, rate: float, spacings: tuple[str, ...]) -> list[Row]:
    """One training, judged at each of the spacings of DDIM's grid."""
    torch.set_num_threads(threads)
    loop = tutorial(recipe, images, rate)
    training = measured(loop.train, images)
    say(f"{name}: {training.images:,} images in {training.cpu_s:.0f} CPU s")
    network, section = loop.network.eval(), recipe.bound
    # the chain of the bound ends at our log-SNR, which is at another time of its schedule
    ends = build(recipe, Manifest.load(within_home(recipe.data.root))).denoiser.schedule(_double(section.last)).log_snr  # type: ignore[union-attr, operator]
    chain = grids.uniform_log_snr(section.steps, schedule(), float(schedule().time(ends)))
    levels = Manifest.load(within_home(recipe.data.root)).levels
    bounding = Bounding(chain, Lower(), levels, section.calls)
    peers = {spacing: Peer(network, network_calls(recipe), spacing, bounding) for spacing in spacings}
    return [
        judged(recipe, f"{name}, {spacing} grid", rate, peer, network, training) for spacing, peer in peers.items()
    ]


def _double(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def judged(recipe: Recipe, name: str, rate: float, model: Any, network: torch.nn.Module, training: Training) -> Row:
    evaluator = Evaluator(recipe)
    with Stage(name, recipe.evaluate.images, "samples") as stage:
        samples = evaluator.samples(model, recipe.evaluate.images, stage)
    figures = evaluator.measure(model, samples).figures
    return Row(name, rate, sum(p.numel() for p in network.parameters()), training, dict(figures))


def alternating(recipe: Recipe, threads: int, slices: int, steps: int) -> dict[str, Any]:
    """Images/s of both loops in short slices by turns, A B B A A B ...: what else the machine does meets both alike."""
    torch.set_num_threads(threads)
    batch = recipe.train.batch
    loops = {"langevin": Ours(recipe).train, "diffusers": tutorial(recipe, recipe.train.images, TUTORIAL_RATE).train}
    for train in loops.values():
        train(WARM_UP_STEPS * batch)
    slices_of: dict[str, list[Training]] = {name: [] for name in loops}
    for turn in range(slices):
        for name in sorted(loops, reverse=turn % 2 == 0):
            slices_of[name].append(measured(loops[name], steps * batch))
    rates = {
        "wall": {name: [one.images / one.wall_s for one in found] for name, found in slices_of.items()},
        "cpu": {name: [one.per_cpu_second for one in found] for name, found in slices_of.items()},
    }
    return {"slices": slices, "steps": steps} | {clock: _compared(found) for clock, found in rates.items()}


def _compared(rates: dict[str, list[float]]) -> dict[str, Any]:
    pairs = [a / b for a, b in zip(rates["langevin"], rates["diffusers"], strict=True)]
    return {name: statistics.median(found) for name, found in rates.items()} | {
        "ratio": statistics.median(pairs),
        "ratios": pairs,
    }


def compete(recipe: Recipe, threads: int, slices: int, steps: int) -> dict[str, Any]:
    """The whole benchmark: a process for each contender, as many at once as there are CPUs for their threads."""
    at_once = max(1, len(os.sched_getaffinity(0)) // threads)
    images, calls = recipe.train.images, network_calls(recipe)
    with ProcessPoolExecutor(at_once, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        speed = pool.submit(alternating, recipe, threads, slices, steps).result()  # alone
        peer = partial(pool.submit, run_peer, recipe, threads)
        first = pool.submit(run_ours, recipe, threads)
        second = peer("diffusers, same images", images, TUTORIAL_RATE, ("leading",))
        third = peer("diffusers at our learning rate, same images", images, recipe.train.lr, ("leading", "trailing"))
        ours, theirs = first.result()[0], second.result()[0]
        affordable = max(1, round(ours.training.cpu_s * theirs.training.per_cpu_second))
        fourth = peer("diffusers, same CPU seconds", affordable, TUTORIAL_RATE, ("leading",))
        rows = [ours, theirs, *fourth.result(), *third.result()]
    return {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "threads": threads,
        "network_calls": calls,
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
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    lines = [
        f"recipe {result['recipe']}, seed {result['seed']}, {result['threads']} thread(s) a contender, "
        f"{result['samples']:,} samples at {result['network_calls']} network calls; {versions}",
        "",
        "| contender | parameters | images | lr | CPU s | images/CPU s | FID | FID / floor | recognised | NLL, bits/dim |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        training, figures = row["training"], {name: row["figures"][name] for name in SHOWN}
        cells = [
            row["name"],
            f"{row['parameters']:,}",
            f"{training['images']:,}",
            f"{row['learning_rate']:g}",
            f"{training['cpu_s']:.1f}",
            f"{row['images_per_cpu_second']:.0f}",
            f"{figures['fid']['value']:.3g} [{figures['fid']['low']:.3g}, {figures['fid']['high']:.3g}]",
            f"{figures['fid_ratio']['value']:.2f}",
            f"{figures['recognised']['value']:.1%}",
            f"{figures['nll']['value']:.3f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| against | their FID / ours | our images/CPU s / theirs |", "|---|---|---|"]
    for name, ratios in result["ratios"].items():
        lines.append(f"| {name} | {ratios['fid']:.2f} | {ratios['images_per_cpu_second']:.2f} |")
    speed = result["speed"]
    lines += ["", f"Training images/s, {speed['slices']} slices of {speed['steps']} steps by turns, medians:"]
    for clock, unit in (("wall", "second"), ("cpu", "CPU second")):
        of = speed[clock]
        lines.append(
            f"a {unit}: langevin {of['langevin']:.0f}, diffusers {of['diffusers']:.0f}, "
            f"median ratio of the pairs {of['ratio']:.2f}"
        )
    return "\n".join(lines)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    asked.add_argument("--images", type=int, help="training images (the recipe's)")
    asked.add_argument("--samples", type=int, help="samples judged (the recipe's)")
    asked.add_argument("--seed", type=int, help="of the trainings (the recipe's)")
    asked.add_argument("--threads", type=int, default=1, help="of each contender's process")
    asked.add_argument("--slices", type=int, default=5, help="timing slices a contender")
    asked.add_argument("--steps", type=int, default=30, help="training steps in a slice")
    asked.add_argument("--out", type=Path, help="where the figures go as JSON")
    given = asked.parse_args()
    recipe = load_recipe(RECIPE)
    train, section = recipe.train, recipe.evaluate
    train = train.model_copy(update={"images": given.images or train.images})
    section = section.model_copy(update={"images": given.samples or section.images})
    seed = recipe.seed if given.seed is None else given.seed
    recipe = recipe.model_copy(update={"train": train, "evaluate": section, "seed": seed})
    with tempfile.TemporaryDirectory(prefix="langevin-benchmark-") as folder:
        os.environ["LANGEVIN_HOME"] = folder
        os.environ["OMP_NUM_THREADS"] = str(given.threads)  # for the processes to come
        prepare(recipe)
        make_extractor(recipe)
        result = compete(recipe, given.threads, given.slices, given.steps)
    if given.out:
        given.out.write_text(json.dumps(result, indent=1) + "\n")
    print(markdown(result))


if __name__ == "__main__":
    main()
