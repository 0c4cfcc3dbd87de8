"""Both contenders, each trained, timed and judged in one process of its own."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from peer import TUTORIAL_RATE, Peer, Tutorial, schedule, unet

from langevin.cluster.worker import begun, plan_of
from langevin.config import parts
from langevin.config.paths import within_home
from langevin.config.recipe import Recipe
from langevin.data.manifest import Manifest
from langevin.data.reader import Reader, read_split
from langevin.diffusion import grids
from langevin.diffusion.variance import Lower
from langevin.evaluation.intervals import Figure
from langevin.methods.bounding import Chain
from langevin.stages.evaluator import Evaluator
from langevin.stages.progress import Stage, say
from langevin.training.loop import fit
from langevin.training.state import TrainState

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
    def snapshot(self, state: TrainState) -> None: ...
    def checkpoint(self, state: TrainState) -> None: ...


class Ours:
    """The recipe's model in our loop, in one process: what each of the product's workers runs."""

    def __init__(self, recipe: Recipe) -> None:
        root = within_home(recipe.data.root)
        self.plan, self.state = plan_of(recipe), begun(recipe, Manifest.load(root))
        self.reader = Reader(root, "train", recipe.seed, self.plan.batch)

    def train(self, images: int) -> int:
        """Trains on at least ``images`` more, in whole batches; returns how many there were."""
        before = self.state.images
        fit(self.state, self.reader, replace(self.plan, images=before + images), Silent())
        return self.state.images - before


def run_ours(recipe: Recipe, threads: int) -> list[Row]:
    """One training of ours, judged as the recipe samples."""
    torch.set_num_threads(threads)
    ours = Ours(recipe)
    training = _measured(ours.train, recipe.train.images)
    say(f"langevin: {training.images:,} images in {training.cpu_s:.0f} CPU s")
    return [_judged(recipe, "langevin", recipe.train.lr, ours.state.serving, ours.state.model, training)]


def run_peer(recipe: Recipe, threads: int, name: str, images: int, rate: float, spacings: tuple[str, ...]) -> list[Row]:
    """One training of the peer, judged at each of the spacings of DDIM's grid."""
    torch.set_num_threads(threads)
    loop = _tutorial(recipe, images, rate)
    training = _measured(loop.train, images)
    say(f"{name}: {training.images:,} images in {training.cpu_s:.0f} CPU s")
    network, bounding = loop.network.eval(), _bounding(recipe)
    peers = {spacing: Peer(network, network_calls(recipe), spacing, bounding) for spacing in spacings}
    return [_judged(recipe, f"{name}, {at} grid", rate, peer, network, training) for at, peer in peers.items()]


def network_calls(recipe: Recipe) -> int:
    """What one of our samples costs."""
    return recipe.sample.steps * (1 if recipe.sample.guidance in (0, 1) else 2)


def alternate(recipe: Recipe, threads: int, slices: int, steps: int) -> dict[str, Any]:
    """Images/s of both loops in short slices by turns, A B B A A B ...: what else the machine does meets both alike."""
    torch.set_num_threads(threads)
    batch = recipe.train.batch
    loops = {"langevin": Ours(recipe).train, "diffusers": _tutorial(recipe, recipe.train.images, TUTORIAL_RATE).train}
    for train in loops.values():
        train(WARM_UP_STEPS * batch)
    found: dict[str, list[Training]] = {name: [] for name in loops}
    for turn in range(slices):
        for name in sorted(loops, reverse=turn % 2 == 0):
            found[name].append(_measured(loops[name], steps * batch))
    wall = {name: [one.images / one.wall_s for one in of] for name, of in found.items()}
    cpu = {name: [one.per_cpu_second for one in of] for name, of in found.items()}
    return {"slices": slices, "steps": steps, "wall": _compared(wall), "cpu": _compared(cpu)}


def _compared(rates: dict[str, list[float]]) -> dict[str, Any]:
    pairs = [ours / theirs for ours, theirs in zip(rates["langevin"], rates["diffusers"], strict=True)]
    medians = {name: statistics.median(of) for name, of in rates.items()}
    return medians | {"ratio": statistics.median(pairs), "ratios": pairs}


def _tutorial(recipe: Recipe, images: int, rate: float) -> Tutorial:
    root = within_home(recipe.data.root)
    manifest = Manifest.load(root)
    torch.manual_seed(recipe.seed)
    network = unet(manifest.shape, len(manifest.classes))
    return Tutorial(network, read_split(root, "train"), recipe.train.batch, -(-images // recipe.train.batch), rate)


def _bounding(recipe: Recipe) -> Chain:
    """The recipe's bound for the peer: on its own schedule, down to the log-SNR at which our chain ends."""
    section, levels = recipe.bound, Manifest.load(within_home(recipe.data.root)).levels
    last = parts.fixed(recipe.model)(torch.tensor(section.last, dtype=torch.float64)).log_snr
    chain = grids.uniform_log_snr(section.steps, schedule(), float(schedule().time(last)))
    return Chain(chain, Lower(), levels, section.calls)


def _measured(train: Callable[[int], int], images: int) -> Training:
    cpu, wall = time.process_time(), time.perf_counter()
    seen = train(images)
    return Training(seen, time.process_time() - cpu, time.perf_counter() - wall)


def _judged(recipe: Recipe, name: str, rate: float, model: Any, network: torch.nn.Module, training: Training) -> Row:
    evaluator = Evaluator(recipe)
    with Stage(name, recipe.evaluate.images, "samples") as stage:
        samples = evaluator.images(model, recipe.evaluate.images, stage)
    figures = evaluator.measure(model, samples, stage).figures
    return Row(name, rate, sum(p.numel() for p in network.parameters()), training, dict(figures))
