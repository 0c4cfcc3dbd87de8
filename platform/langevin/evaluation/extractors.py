"""Where the features of images come from: a classifier trained on the data set itself, or torch-fidelity's Inception.

An extractor carries its name, the hash of its weights and its accuracy, because a FID means nothing without them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import safetensors.torch
import torch
from torch import Tensor, nn

from langevin.errors import CheckpointError, ConfigError, DataError
from langevin.evaluation.classifier import FEATURES, Classifier, train_classifier
from langevin.evaluation.compatibility import fidelity, fidelity_part
from langevin.evaluation.crew import ALONE, Crew, Work

INCEPTION = "inception-v3-compat"
# fixed: the features of a set are then the same to the bit, however the set was made
_BATCH, _INCEPTION_BATCH = 256, 64  # of large images few: they are to share out well, and to fit
_WEIGHTS, _CARD = "extractor.safetensors", "extractor.json"


@dataclass(frozen=True)
class Features:
    """features: (N, d) float32, logits: (N, classes) float32, both on the CPU."""

    features: Tensor
    logits: Tensor


class Extractor(Protocol):
    """name, and sha256 of the weights; dim of the features; accuracy on the test split (None where there is none)."""

    @property
    def name(self) -> str: ...
    @property
    def dim(self) -> int: ...
    @property
    def sha256(self) -> str: ...
    @property
    def accuracy(self) -> float | None: ...
    @property
    def classes(self) -> int: ...

    def features(self, images: Tensor) -> Features:
        """Features of images (N, C, H, W) uint8, in batches, without gradients, deterministic."""
        ...


@dataclass(frozen=True)
class ConvExtractor:
    """A classifier trained on the data set's own train split. n: its training images; shape: (C, H, W) of an image;
    crew: who looks at the batches.
    """

    network: Classifier
    name: str
    sha256: str
    accuracy: float
    n: int
    seed: int
    classes: int
    dataset: str
    shape: tuple[int, int, int]
    dim: int = FEATURES
    crew: Crew = ALONE

    def features(self, images: Tensor) -> Features:
        _check(images)
        if tuple(images.shape[1:]) != self.shape:
            raise DataError(f"{self.name} reads images of shape {self.shape}, not {tuple(images.shape[1:])}")
        return _in_batches(self.network, images, self.crew)

    def save(self, folder: str | Path) -> None:
        """Write extractor.safetensors and extractor.json into the folder, made where it is missing."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _WEIGHTS).write_bytes(_weights(self.network))
        card = {key: getattr(self, key) for key in self.__dataclass_fields__ if key not in ("network", "crew")}
        (folder / _CARD).write_text(json.dumps(card, indent=2, sort_keys=True) + "\n")


@dataclass(frozen=True)
class InceptionExtractor:
    """torch-fidelity's Inception v3 (the weights of the first FID paper); it scales images to 299 x 299 itself."""

    network: nn.Module
    sha256: str
    name: str = INCEPTION
    dim: int = 2048
    classes: int = 1008
    accuracy: float | None = None
    crew: Crew = ALONE

    def features(self, images: Tensor) -> Features:
        _check(images)
        colour = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
        return _in_batches(self.network, colour, self.crew, _INCEPTION_BATCH)


def train_extractor(
    images: Tensor,
    labels: Tensor,
    test_images: Tensor,
    test_labels: Tensor,
    classes: int,
    seed: int,
    name: str,
    dataset: str = "",
) -> ConvExtractor:
    """Train on (images, labels), measure accuracy on the test split. Images (N, C, H, W) uint8; dataset: its digest."""
    _check(images)
    _check(test_images)
    if not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise DataError("a label lies outside of the classes", field="labels", value=int(labels.max()))
    network = train_classifier(images, labels, classes, seed)
    right = _in_batches(network, test_images).logits.argmax(dim=1) == test_labels
    channels, height, width = images.shape[1:]
    return ConvExtractor(
        network=network,
        name=name,
        sha256=hashlib.sha256(_weights(network)).hexdigest(),
        accuracy=round(right.double().mean().item(), 6),
        n=len(images),
        seed=seed,
        classes=classes,
        dataset=dataset,
        shape=(channels, height, width),
    )


def load_extractor(
    name_or_folder: str | Path, weights_path: str | Path | None = None, crew: Crew = ALONE
) -> ConvExtractor | InceptionExtractor:
    """A saved extractor by its folder, or ``inception-v3-compat`` by its name and the path of its weights. crew: who
    looks at batches of images, which changes no feature.

    Raises ConfigError where nothing lies there, CheckpointError where what lies there is damaged or unsafe.
    """
    if str(name_or_folder) == INCEPTION:
        return replace(_load_inception(weights_path), crew=crew)
    return replace(_load_conv(Path(name_or_folder)), crew=crew)


def register(extractor: Extractor) -> None:
    """Make torch-fidelity know the extractor: ``calculate_metrics(feature_extractor=extractor.name, ...)``.

    Raises ConfigError where the name already stands for other weights: torch-fidelity's cache goes by the name alone.
    """
    registry = fidelity_part("registry").FEATURE_EXTRACTORS_REGISTRY
    known = getattr(registry.get(extractor.name), "sha256", None)
    if known == extractor.sha256 or extractor.name == INCEPTION:
        return
    if extractor.name in registry:
        raise ConfigError(
            "another extractor is registered under this name",
            field="extractor",
            value=extractor.name,
            mend="choose another name, or start a new process",
        )
    fidelity().register_feature_extractor(extractor.name, _registered(extractor))


def _registered(extractor: Extractor) -> type:
    """A class in torch-fidelity's form that answers with this extractor."""
    layers = ("features", "logits")

    class Registered(fidelity().FeatureExtractorBase):  # type: ignore[misc]
        sha256 = extractor.sha256

        def __init__(self, name: str, features_list: list[str], **_: Any) -> None:
            super().__init__(name, features_list)

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return layers

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "logits" if metric == "isc" else "features"

        @staticmethod
        def can_be_compiled() -> bool:
            return False

        def forward(self, images: Tensor) -> tuple[Tensor, ...]:
            found = extractor.features(images)
            return tuple(getattr(found, layer) for layer in self.features_list)

    return Registered


def _load_conv(folder: Path) -> ConvExtractor:
    card_path, weights_path = folder / _CARD, folder / _WEIGHTS
    for path in (card_path, weights_path):
        if not path.is_file():
            mend = f"give a folder with {_CARD} and {_WEIGHTS}, or {INCEPTION}"
            raise ConfigError("no extractor lies here", file=path, mend=mend)
    mend = "train the extractor again"
    try:
        card = json.loads(card_path.read_text())
        card["shape"] = tuple(card["shape"])
        network = Classifier(card["shape"][0], min(card["shape"][1:]), card["classes"])
        extractor = ConvExtractor(network=network, **card)
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise CheckpointError(f"the extractor's description is damaged: {error}", file=card_path, mend=mend) from error
    weights = weights_path.read_bytes()
    found = hashlib.sha256(weights).hexdigest()
    if found != extractor.sha256:
        problem = f"the weights are not those of {card_path.name}"
        raise CheckpointError(problem, file=weights_path, field="sha256", value=found, mend=mend)
    try:
        network.load_state_dict(safetensors.torch.load(weights))
    except (RuntimeError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"the weights are of another network: {error}", file=weights_path, mend=mend) from error
    network.eval()
    return extractor


def _load_inception(weights_path: str | Path | None) -> InceptionExtractor:
    if weights_path is None or not Path(weights_path).is_file():
        raise ConfigError(
            f"{INCEPTION} needs its weights, which are never fetched unasked",
            field="weights_path",
            value=None if weights_path is None else str(weights_path),
            mend="give the path of torch-fidelity's weights-inception-2015-12-05-6726825d.pth",
        )
    try:
        # torch-fidelity unpickles without restraint: let through only what also loads as tensors alone
        torch.load(weights_path, weights_only=True, map_location="cpu")
        network = fidelity_part("feature_extractor_inceptionv3").FeatureExtractorInceptionV3(
            INCEPTION, ["2048", "logits_unbiased"], feature_extractor_weights_path=str(weights_path)
        )
    except Exception as error:  # the unpickler raises whatever the bytes make it raise
        summary = str(error).partition("\n")[0]
        raise CheckpointError(f"not a usable file of Inception's weights: {summary}", file=weights_path) from error
    return InceptionExtractor(network, hashlib.sha256(Path(weights_path).read_bytes()).hexdigest())


@dataclass(frozen=True)
class _Looking(Work[Tensor, Features]):
    """What a network that returns (features, logits) sees in a batch of images."""

    def do(self, item: Tensor) -> Features:
        features, logits = self.model(item.to(self.device))
        return Features(features.cpu(), logits.cpu())


def _in_batches(network: nn.Module, images: Tensor, crew: Crew = ALONE, size: int = _BATCH) -> Features:
    found = crew.map(_Looking(network), images.cpu().split(size))
    return Features(torch.cat([one.features for one in found]), torch.cat([one.logits for one in found]))


def _weights(network: nn.Module) -> bytes:
    return safetensors.torch.save({key: value.contiguous() for key, value in network.state_dict().items()})


def _check(images: Tensor) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or len(images) == 0:
        raise DataError(f"an extractor reads (N, C, H, W) uint8 images, not {tuple(images.shape)} {images.dtype}")
