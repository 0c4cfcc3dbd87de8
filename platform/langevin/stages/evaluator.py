"""Everything that measures one recipe's models: the same data, extractor, judge and spec for each of them."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from langevin.cluster.session import cpus
from langevin.config.load import restore
from langevin.config.paths import within_home
from langevin.config.recipe import Recipe
from langevin.config.table import NETWORKS
from langevin.data.manifest import Manifest
from langevin.data.reader import read_split
from langevin.evaluation.extractors import Extractor
from langevin.evaluation.fidelity import fid
from langevin.evaluation.judge import Judge
from langevin.evaluation.nll import nll
from langevin.evaluation.statistics import Moments
from langevin.evaluation.suite import Evaluation, MetricSpec, draw, evaluate_samples
from langevin.protocols import Batch, Samples
from langevin.randomness import Keys
from langevin.stages.extractor import as_bytes, extractor_of, real_images
from langevin.stages.progress import Stage
from langevin.training.checkpoint import Checkpoint

NLL_DRAWS = 2  # of the bound's noise: one more than its value needs, so that it knows its own error
QUANTISATION = "levels floor((x + 1) / 2 (L - 1) + 1/2) clipped, stored as bytes round(level 255 / (L - 1))"


class Evaluator:
    """The data, the extractor and the judge of one recipe, ready for any number of checkpoints."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        root = within_home(recipe.data.root)
        self.manifest = Manifest.load(root)
        self.extractor: Extractor = extractor_of(recipe)
        self.train = real_images(root, "train", self.manifest)
        self.test = real_images(root, "test", self.manifest)
        self.test_batch = read_split(root, "test")
        assert self.train.labels is not None
        self.judge = Judge.train(self.train.images, self.train.labels)
        # the classes in the proportions of the training images: another mix would itself count as a distance
        self.labels = _spread(self.train.labels, recipe.evaluate.images)

    @property
    def spec(self) -> MetricSpec:
        """Everything but the model that moves a figure."""
        recipe, extractor = self.recipe, self.extractor
        return MetricSpec(
            extractor=extractor.name,
            extractor_sha256=extractor.sha256,
            extractor_accuracy=extractor.accuracy,
            reference_split="test",
            reference_n=len(self.test.images),
            dataset_digest=self.manifest.digest,
            generated_n=recipe.evaluate.images,
            seed=recipe.evaluate.seed,
            quantisation=QUANTISATION,
            sampling=recipe.sample.plain() | {"bound": recipe.bound.plain(), "nll_draws": NLL_DRAWS},
        )

    def model(self, checkpoint: Checkpoint) -> Any:
        """The checkpoint's model as this recipe samples and bounds it, whatever recipe it was trained by."""
        return restore(checkpoint, self.recipe.sample, self.recipe.bound)

    def samples(self, model: Samples, count: int, stage: Stage, before: int = 0) -> Tensor:
        """The first ``count`` samples of the evaluation's seed, (N, C, H, W) uint8: fewer are a part of more."""
        section = self.recipe.evaluate
        labels = self.labels[:count]
        drawn = draw(model, labels, section.seed, section.batch, lambda done: stage.at(before + done), threads=cpus())
        return as_bytes(drawn, self.manifest.levels)

    def measure(self, model: Any, samples: Tensor) -> Evaluation:
        """All figures of a model whose samples are drawn."""
        started, section = time.perf_counter(), self.recipe.evaluate
        labels, dims = self.labels[: len(samples)], self.test_batch.images[0].numel()
        figures = evaluate_samples(samples, labels, self.test, self.train, self.extractor, self.judge, section.seed)
        batches = _batches(self.test_batch, section.batch)
        likelihood = nll(model, batches, section.seed, dims, threads=cpus(), draws=NLL_DRAWS)
        classes = {self.manifest.classes[int(k)]: v for k, v in self.judge.by_class(samples, labels).items()}
        seconds = time.perf_counter() - started
        return Evaluation(self.spec, figures | likelihood.figures(), classes, seconds, network_calls(model))

    def fid(self, samples: Tensor) -> float:
        """FID of samples (N, C, H, W) uint8 against the test images."""
        features = self.extractor.features(samples).features
        return fid(Moments.of(features), Moments.of(self.extractor.features(self.test.images).features))


def network_calls(model: Any) -> int | None:
    """How often one sample goes through a network, a guiding one's calls included: counted while one is drawn.

    None for a model that is no module, whose networks are its own affair.
    """
    networks = [part for part in model.modules() if isinstance(part, NETWORKS)] if isinstance(model, nn.Module) else []
    if not networks:
        return None
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    hooks = [network.register_forward_hook(count) for network in networks]
    drawing: Samples = model  # type: ignore[assignment]
    try:
        drawing.sample(Keys.range(0, 0, 1), torch.zeros(1, dtype=torch.int64))
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def _spread(labels: Tensor, count: int) -> Tensor:
    """``count`` labels in the proportions of ``labels`` (largest remainders), every prefix nearly so too."""
    shares = np.bincount(labels.numpy()) / len(labels)
    quotas = np.outer(np.arange(1, count + 1), shares)
    given, chosen = np.zeros(len(shares)), []
    for quota in quotas:
        chosen.append(int(np.argmax(quota - given)))
        given[chosen[-1]] += 1
    return torch.tensor(chosen, dtype=torch.int64)


def _batches(batch: Batch, size: int) -> list[Batch]:
    parts = range(0, len(batch), size)
    labels = batch.labels
    return [
        Batch(
            batch.images[start : start + size],
            None if labels is None else labels[start : start + size],
            batch.ordinals[start : start + size],
            batch.keys[start : start + size],
        )
        for start in parts
    ]
