"""Everything that measures one recipe's models: the same data, extractor, judge and spec for each of them."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from langevin.cluster.crew import own_threads
from langevin.config.load import restore
from langevin.config.paths import features_folder, within_home
from langevin.config.recipe import Recipe
from langevin.config.sampling import Sample
from langevin.config.table import NETWORKS
from langevin.data.manifest import Manifest
from langevin.data.reader import attributes_of, read_split
from langevin.data.records import texts_of
from langevin.evaluation.attributes import caption_accuracy
from langevin.evaluation.audit import Aspect
from langevin.evaluation.cache import FeatureCache
from langevin.evaluation.crew import ALONE, Crew, Work
from langevin.evaluation.extractors import Extractor
from langevin.evaluation.frechet import fid, fid_figure
from langevin.evaluation.intervals import Figure, mean
from langevin.evaluation.judge import Judge, Parser, Verdicts, by_class
from langevin.evaluation.nll import UNIT, nll
from langevin.evaluation.pretrained import Clip, Dinov2, load_clip, load_dinov2, weights_sha256
from langevin.evaluation.reconstruction import psnr_figure
from langevin.evaluation.sets import FeatureSet
from langevin.evaluation.statistics import Moments
from langevin.evaluation.suite import (
    Evaluation,
    MetricSpec,
    RealImages,
    audit_samples,
    draw,
    evaluate_fd,
    evaluate_samples,
)
from langevin.protocols import (
    Batch,
    Bounded,
    BoundsOtherwise,
    Cond,
    Reconstructs,
    Samples,
    condition_of,
    on_device,
    rows,
)
from langevin.randomness import Keys
from langevin.stages.extractor import as_bytes, extractor_of, real_images
from langevin.stages.progress import Stage
from langevin.training.checkpoint import Checkpoint

HELDOUT = "heldout"  # the split of what no training image shows
NLL_DRAWS = 2  # of the bound's noise: one more than its value needs, so that it knows its own error
QUANTISATION = "levels floor((x + 1) / 2 (L - 1) + 1/2) clipped, stored as bytes round(level 255 / (L - 1))"


@dataclass(frozen=True)
class _Reconstruction(Work[Tensor, Tensor]):
    """Images (b, C, H, W) as they come back from a model's latents."""

    def do(self, item: Tensor) -> Tensor:
        found: Tensor = self.model.reconstruct(item.to(self.device))
        return found.cpu()


@dataclass(frozen=True)
class _OtherBounds(Work[Batch, Mapping[str, Tensor]]):
    """Further bounds of a batch, by name."""

    seed: int

    def do(self, item: Batch) -> Mapping[str, Tensor]:
        batch = item.to(self.device)
        return {
            name: nats.cpu() for name, nats in self.model.other_bounds(batch, Keys(self.seed, batch.ordinals)).items()
        }


@dataclass(frozen=True)
class _Counting(Work[Batch, int | None]):
    """See ``network_calls``."""

    def do(self, item: Batch) -> int | None:
        modules = self.model.modules() if isinstance(self.model, nn.Module) else ()
        networks = [part for part in modules if isinstance(part, NETWORKS)]
        if not networks:
            return None
        calls = 0

        def count(*_: Any) -> None:
            nonlocal calls
            calls += 1

        hooks = [network.register_forward_hook(count) for network in networks]
        try:
            asked = on_device(condition_of(self.model, item), self.device)
            self.model.sample(Keys.range(0, 0, 1).to(self.device), asked)
        finally:
            for hook in hooks:
                hook.remove()
        return calls


class Evaluator:
    """The data, the extractor and the judge of one recipe, ready for any number of checkpoints."""

    def __init__(self, recipe: Recipe, crew: Crew | None = None) -> None:
        """crew: who draws and looks; threads of this process without."""
        self.recipe, self.crew = recipe, crew or own_threads()
        self.root = root = within_home(recipe.data.root)
        self.manifest = Manifest.load(root)
        self.extractor: Extractor = extractor_of(recipe, self.crew)
        self.train = self._known("train", self.extractor)
        self.test = self._known("test", self.extractor)
        self.test_batch = read_split(root, "test")
        assert self.train.labels is not None
        # the classes in the proportions of the training images: another mix would itself count as a distance
        self.labels = _spread(self.train.labels, recipe.evaluate.images)
        self.asked, self.places = _alike(self.test_batch, self.labels)

    @cached_property
    def judge(self) -> Verdicts:
        """Images that can be read need no trained judge."""
        if self.manifest.captions:
            return Parser(self.manifest.classes)
        assert self.train.labels is not None
        return Judge.train(self.train.images, self.train.labels)

    @property
    def spec(self) -> MetricSpec:
        """Everything but the model that moves a figure."""
        return spec_of(self.recipe, self.manifest, self.extractor)

    @cached_property
    def dinov2(self) -> Dinov2 | None:
        folder = _others(self.recipe).get("dinov2")
        return load_dinov2(folder, self.crew) if folder else None

    @cached_property
    def clip(self) -> Clip | None:
        folder = _others(self.recipe).get("clip")
        return load_clip(folder, self.crew) if folder else None

    def _known(self, split: str, extractor: Extractor) -> RealImages:
        """A split with its features, which are computed once for all evaluations of a data set by an extractor."""
        real = real_images(self.root, split, self.manifest)
        content = {"dataset": self.manifest.digest, "split": split, "quantisation": QUANTISATION}
        return replace(real, features=FeatureCache(features_folder()).features(extractor, real.images, content))

    def sampled_by(self, sample: Sample) -> Evaluator:
        """The same for models that are sampled otherwise."""
        other = copy.copy(self)
        other.recipe = self.recipe.model_copy(update={"sample": sample})
        return other

    def model(self, checkpoint: Checkpoint) -> Any:
        """The checkpoint's model as this recipe samples and bounds it, whatever recipe it was trained by."""
        return restore(checkpoint, self.recipe.sample, self.recipe.bound)

    def images(self, model: Any, count: int, stage: Stage, before: int = 0) -> Tensor:
        """The first ``count`` images that a model makes, (N, C, H, W) uint8: samples of the evaluation's seed, of which
        fewer are a part of more; of a codec, which draws none, the test images again.
        """
        if not isinstance(model, Samples):
            return self._again(model, self.test_batch.images[:count])
        return self._drawn(model, rows(condition_of(model, self.asked), 0, count), count, stage, before)

    def measure(self, model: Any, images: Tensor, stage: Stage) -> Evaluation:
        """All figures of a model whose images are made: those that its protocols and its data allow."""
        started, section = time.perf_counter(), self.recipe.evaluate
        figures: dict[str, Figure] = {}
        classes: dict[str, Figure] = {}
        audited: dict[str, Aspect] = {}
        if isinstance(model, Samples):
            labels = self.labels[: len(images)]
            figures |= evaluate_samples(images, labels, self.test, self.train, self.extractor, self.judge, section.seed)
            figures |= self.captions(model, images, stage)
            if self.dinov2:
                figures |= evaluate_fd(images, labels, self._known("test", self.dinov2), self._known("train", self.dinov2),
                                       self.dinov2, section.seed)  # fmt: skip
            classes = {self.manifest.classes[int(k)]: v for k, v in by_class(figures["recognised"], labels).items()}
            audited = audit_samples(images, self.train, self.judge, self.manifest.classes, section.seed)
        if isinstance(model, Reconstructs):
            figures |= self._reconstruction(model)
        if isinstance(model, Bounded):
            figures |= self._likelihood(model)
        calls = network_calls(model, self.asked[:1], self.crew) if isinstance(model, Samples) else None
        return Evaluation(self.spec, figures, classes, time.perf_counter() - started, calls, audited)

    def captions(self, model: Samples, images: Tensor, stage: Stage) -> dict[str, Figure]:
        """How much of their captions images show, of a model that is asked by captions: those of the test images, and
        those of the split "heldout", which put together what no training image does, where there is one.
        """
        if not _asks(condition_of(model, self.asked), self.asked.captions):
            return {}
        scenes = attributes_of(self.root, "test")
        shown = caption_accuracy(images, [scenes[place] for place in self.places[: len(images)]])
        figures = {f"caption_{name}": figure for name, figure in shown.items()}
        if self.clip and self.asked.captions is not None and self.test_batch.captions is not None:
            figures["clip_score"] = mean(self.clip.scores(images, texts_of(self.asked.captions[: len(images)])))
            figures["clip_score_floor"] = mean(self.clip.scores(self.test.images, texts_of(self.test_batch.captions)))
        if HELDOUT in self.manifest.splits:
            new = read_split(self.root, HELDOUT)[: len(images) // 2]
            drawn = self._drawn(model, condition_of(model, new), len(new), stage, 0)
            shown = caption_accuracy(drawn, attributes_of(self.root, HELDOUT)[: len(new)])
            figures |= {f"{HELDOUT}_{name}": figure for name, figure in shown.items()}
        return figures

    def _drawn(self, model: Samples, cond: Cond, count: int, stage: Stage, before: int, first: int = 0) -> Tensor:
        section = self.recipe.evaluate
        return draw(model, cond, count, section.seed, section.batch, lambda done: stage.at(before + done), self.crew, first,
                    kept=partial(as_bytes, levels=self.manifest.levels))  # fmt: skip

    def _again(self, model: Reconstructs, images: Tensor) -> Tensor:
        parts = images.split(self.recipe.evaluate.batch)
        return as_bytes(torch.cat(self.crew.map(_Reconstruction(model), parts)), self.manifest.levels)

    def _likelihood(self, model: Bounded) -> dict[str, Figure]:
        """The bound on the test images, with its parts, and what other bounds the model has."""
        section, dims = self.recipe.evaluate, self.test_batch.images[0].numel()
        batches = [self.test_batch[at : at + section.batch] for at in range(0, len(self.test_batch), section.batch)]
        figures = nll(model, batches, section.seed, dims, self.crew, NLL_DRAWS).figures()
        if isinstance(model, BoundsOtherwise):
            others = self.crew.map(_OtherBounds(model, section.seed), batches)
            for name in others[0]:
                nats = torch.cat([found[name] for found in others])
                figures[f"nll_{name}"] = mean(nats / (math.log(2) * dims), UNIT)
        return figures

    def _reconstruction(self, model: Reconstructs) -> dict[str, Figure]:
        """Of the test images: FID of what the model makes of them again against them, with how far each is from its own."""
        again, seed = self._again(model, self.test_batch.images), self.recipe.evaluate.seed
        found = FeatureSet.of(self.extractor.features(again).features, seed, "reconstructed", self.test.labels)
        real = FeatureSet.of(self.reference, seed, "reference", self.test.labels)
        return {"rfid": fid_figure(found, real), "psnr": psnr_figure(self.test.images, again)}

    def features(self, model: Samples, first: int, count: int, stage: Stage, before: int = 0) -> Tensor:
        """Of the samples ``first`` to ``count`` of the evaluation's seed, as ``images`` draws them: (count - first, d)."""
        cond = rows(condition_of(model, self.asked), 0, count)
        return self.extractor.features(self._drawn(model, cond, count, stage, before, first)).features

    @property
    def reference(self) -> Tensor:
        """Features of the test images, (N, d)."""
        return self.test.seen_by(self.extractor)

    def nll(self, model: Bounded) -> float:
        """The bound on the test images, in bits/dim."""
        return self._likelihood(model)["nll"].value

    @cached_property
    def _moments(self) -> Moments:
        return Moments.of(self.reference)

    def fid_of(self, features: Tensor) -> float:
        """FID of samples by their features (N, d) against the test images."""
        return fid(Moments.of(features), self._moments)

    def fid(self, samples: Tensor) -> float:
        """FID of samples (N, C, H, W) uint8 against the test images."""
        return self.fid_of(self.extractor.features(samples).features)


def spec_of(recipe: Recipe, manifest: Manifest, extractor: Extractor) -> MetricSpec:
    """The spec of the recipe's evaluations, told without a look at the images. manifest: of its images."""
    return MetricSpec(
        extractor=extractor.name,
        extractor_sha256=extractor.sha256,
        extractor_accuracy=extractor.accuracy,
        reference_split="test",
        reference_n=manifest.splits["test"].samples,
        dataset_digest=manifest.digest,
        generated_n=recipe.evaluate.images,
        seed=recipe.evaluate.seed,
        quantisation=QUANTISATION,
        sampling=recipe.sample.plain() | {"bound": recipe.bound.plain(), "nll_draws": NLL_DRAWS} | _around(recipe),
        judge=(Parser if manifest.captions else Judge).name,
        others={name: weights_sha256(folder, name) for name, folder in _others(recipe).items()},
    )


def _others(recipe: Recipe) -> dict[str, Path]:
    """The folders of further networks that look at the samples, by the names of their fields."""
    named = {"dinov2": recipe.evaluate.dinov2, "clip": recipe.evaluate.clip}
    return {name: within_home(folder) for name, folder in named.items() if folder}


def network_calls(model: Samples, like: Batch, crew: Crew = ALONE) -> int | None:
    """How often one sample goes through a network, a guiding one's calls included: counted while one like ``like``, a
    batch of one, is drawn.

    None for a model that is no module, whose networks are its own affair.
    """
    (calls,) = crew.map(_Counting(model), [like])
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


def _alike(batch: Batch, labels: Tensor) -> tuple[Batch, list[int]]:
    """Images of these labels, (N,), each class's own in turn and again from its first, and their places in the batch.

    Their ordinals count from 0.
    """
    assert batch.labels is not None
    places = {int(label): (batch.labels == label).nonzero()[:, 0] for label in labels.unique()}
    given = dict.fromkeys(places, 0)
    chosen = []
    for label in labels.tolist():
        own = places[label] if len(places[label]) else torch.arange(len(batch))
        chosen.append(int(own[given[label] % len(own)]))
        given[label] += 1
    return replace(batch[torch.tensor(chosen)], ordinals=torch.arange(len(labels)), labels=labels), chosen


def _asks(cond: Cond, captions: Tensor | None) -> bool:
    """Whether the captions are (a part of) what images are drawn for."""
    parts = cond if isinstance(cond, tuple) else (cond,)
    return captions is not None and any(part is captions for part in parts)


def _around(recipe: Recipe) -> dict[str, Any]:
    """What else decides how samples are drawn."""
    return {"upsampling": recipe.upsampling.plain()} if recipe.upsampling else {}
