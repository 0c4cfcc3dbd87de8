"""What all figures of an evaluation cost above FID alone, and how fast features are extracted.

    .venv/bin/python tests/benchmarks/evaluation_cost.py [--images 10000 --side 32 --channels 3] [--inception PATH]
    .venv/bin/python tests/benchmarks/evaluation_cost.py --recipe pipelines/recipes/ddpm-digits.yaml

Images of noise and blobs by an extractor of the given size: its weights are random, for the time does not depend on them.
FID alone: one pass of features over the generated images, those of the real ones being known (cache.py), FID, its floor
and their intervals. All: ``evaluate_samples`` on the same images, and the audit apart. By turns, in seconds of CPU, which
a busy machine moves less than those of a clock. Then images a second, by the clock: torch-fidelity's own loop over
the same extractor, ours, and ours with two threads; all with one thread an operation.

With a recipe that is trained, what its evaluation takes of a CPU: drawing the samples, FID alone, all figures of the samples,
the audit, the likelihood.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch.utils.data import Dataset

from langevin.config.load import load_recipe
from langevin.config.paths import home
from langevin.evaluation.classifier import Classifier
from langevin.evaluation.compatibility import fidelity_part
from langevin.evaluation.crew import ALONE, Threads
from langevin.evaluation.extractors import INCEPTION, ConvExtractor, Extractor, load_extractor, register
from langevin.evaluation.frechet import fid_figures
from langevin.evaluation.judge import Judge
from langevin.evaluation.sets import FeatureSet
from langevin.evaluation.suite import RealImages, audit_samples, chosen, evaluate_fd, evaluate_samples
from langevin.stages.evaluator import Evaluator
from langevin.stages.progress import Stage
from langevin.training import checkpoint as checkpoints

CLASSES = 10


class Stored(Dataset):
    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--reference", type=int, default=10_000)
    parser.add_argument("--train", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--inception", help="path of Inception's weights, in the place of the small extractor")
    parser.add_argument("--recipe", type=Path, help="a trained one, in the place of all the above")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.recipe:
        evaluated(given.recipe, given.rounds)
        return
    torch.manual_seed(0)
    shape = (given.channels, given.side, given.side)
    extractor = load_extractor(INCEPTION, given.inception) if given.inception else small(shape)
    generated, labels = blobs(given.images, shape), torch.arange(given.images) % CLASSES
    reference, train = (known(count, shape, extractor) for count in (given.reference, given.train))
    judge = Judge.train(train.images[:500], torch.arange(500) % CLASSES)

    def alone() -> None:
        ours = FeatureSet.of(extractor.features(generated).features, 0, "generated", labels)
        some = chosen(len(train.images), len(generated), 0)
        floor = FeatureSet.of(train.seen_by(extractor)[some], 0, "train", train.labels[some])  # type: ignore[index]
        fid_figures(ours, FeatureSet.of(reference.seen_by(extractor), 0, "reference", reference.labels), floor)

    def everything() -> None:
        evaluate_samples(generated, labels, reference, train, extractor, judge)

    def audited() -> None:
        audit_samples(generated, train, judge, tuple(map(str, range(CLASSES))))

    parts: dict[str, Callable[[], object]] = {
        "features of the generated images": lambda: extractor.features(generated),
        "FID alone": alone,
        "all figures": everything,
        "audit": audited,
    }
    taken = by_turns(parts, given.rounds)
    print(f"all / FID alone: {taken['all figures'] / taken['FID alone']:.3f}")
    rates(extractor, generated[:2048], given.rounds)


def evaluated(path: Path, rounds: int) -> None:
    recipe = load_recipe(path)
    evaluator = Evaluator(recipe, ALONE)
    trained = json.loads((home() / f"out/{recipe.name}/training.json").read_text())
    model = evaluator.model(checkpoints.read(home() / trained["checkpoint"]))
    labels, judge, seed = evaluator.labels, evaluator.judge, recipe.evaluate.seed
    with Stage("draw", len(labels) * (rounds + 1)) as stage:
        images = evaluator.images(model, len(labels), stage)
        real = evaluator.test, evaluator.train
        taken = by_turns(
            {
                "drawing": lambda: evaluator.images(model, len(labels), stage),
                "FID alone": lambda: evaluate_fd(images, labels, *real, evaluator.extractor, seed),
                "all figures": lambda: evaluate_samples(images, labels, *real, evaluator.extractor, judge, seed),
                "audit": lambda: audit_samples(images, evaluator.train, judge, evaluator.manifest.classes, seed),
                "likelihood": lambda: evaluator.nll(model),
            },
            rounds,
        )
    drawn = taken["drawing"]
    print(f"all / FID alone: {taken['all figures'] / taken['FID alone']:.3f}, "
          f"with the drawing {(drawn + taken['all figures']) / (drawn + taken['FID alone']):.3f}")  # fmt: skip


def by_turns(parts: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of CPU, the median of the rounds, which is printed with the least and the most."""
    taken: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(rounds):
        for name, work in parts.items():
            started = time.process_time()
            work()
            taken[name].append(time.process_time() - started)
    for name, seconds in taken.items():
        print(f"{name}: {median(seconds):.2f} s of CPU, {min(seconds):.2f} to {max(seconds):.2f}", flush=True)
    return {name: median(seconds) for name, seconds in taken.items()}


def rates(extractor: Extractor, images: Tensor, rounds: int) -> None:
    """Images a second by the clock, by turns."""
    register(extractor)
    utils = fidelity_part("utils")
    peer = utils.create_feature_extractor(extractor.name, ["features"], cuda=False, verbose=False)
    two = replace(extractor, crew=Threads(2))  # type: ignore[type-var]

    def theirs() -> None:
        utils.get_featuresdict_from_dataset(Stored(images), peer, 256, False, True, False)

    ways: dict[str, Callable[[], object]] = {
        "torch-fidelity": theirs,
        "ours": lambda: extractor.features(images),
        "ours, 2 threads": lambda: two.features(images),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, work in ways.items():
            started = time.perf_counter()
            work()
            taken[name].append(time.perf_counter() - started)
    for name, seconds in taken.items():
        print(f"{name}: {len(images) / min(seconds):.1f} images/s at best of {rounds}")


def small(shape: tuple[int, int, int]) -> ConvExtractor:
    network = Classifier(shape[0], shape[1], CLASSES).eval()
    return ConvExtractor(network, "random", "00" * 32, 0.1, 0, 0, CLASSES, "none", shape)


def known(count: int, shape: tuple[int, int, int], extractor: Extractor) -> RealImages:
    images = blobs(count, shape)
    return RealImages(images, torch.arange(count) % CLASSES, extractor.features(images).features)


def blobs(count: int, shape: tuple[int, int, int]) -> Tensor:
    """(count, *shape) uint8: noise, smoothed, with a contrast of its own."""
    coarse = torch.randn(count, shape[0], 4, 4) * 60 + 128
    images = torch.nn.functional.interpolate(coarse, size=shape[1:], mode="bilinear")
    return (images + torch.randn(count, *shape) * 10).clamp(0, 255).byte()


if __name__ == "__main__":
    main()
