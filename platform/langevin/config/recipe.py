"""The recipe: one YAML file that says everything about a model, from its images to its samples. Frozen and strict."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from langevin.config.code import code_digest

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def plain(self) -> dict[str, Any]:
        """The section as JSON would hold it."""
        return self.model_dump(mode="json")


class Data(Section):
    """Where the images come from, where the shards lie, and how they are split. Paths are relative to the home folder."""

    source: Literal["digits", "folder"]
    root: str
    images: str | None = None
    size: Count | None = None
    channels: Literal[1, 3] = 3
    splits: dict[str, Annotated[float, Field(gt=0, lt=1)]] = {"train": 0.7, "validation": 0.1, "test": 0.2}
    shard_samples: Count = 1024

    @model_validator(mode="after")
    def _complete(self) -> Data:
        if self.source == "folder" and (self.images is None or self.size is None):
            raise ValueError("source folder needs images (the folder) and size (pixels a side)")
        if missing := {"train", "validation", "test"} - self.splits.keys():
            raise ValueError(f"splits lacks {', '.join(sorted(missing))}")
        return self


class Network(Section):
    """The UNet. channels: at full resolution; attention: the resolutions, in pixels a side, that attend."""

    channels: Count = 64
    multipliers: Annotated[tuple[Count, ...], Field(min_length=1)] = (1, 2)
    blocks: Count = 2
    attention: tuple[Count, ...] = ()


class Schedule(Section):
    """A discrete chain of ``steps`` = T noise levels."""

    name: Literal["linear", "cosine", "scaled_linear"] = "cosine"
    steps: Count = 1000


class Model(Section):
    """What is trained: the method and its parts."""

    method: Literal["ddpm"]
    network: Network = Network()
    schedule: Schedule = Schedule()
    prediction: Literal["noise", "data", "velocity"] = "noise"
    weighting: Literal["simple", "velocity", "min_snr"] = "simple"
    condition_dropout: Share = 0.1


class Train(Section):
    """How it is trained. Everything named ..._every, images, batch and warmup counts images over all workers."""

    images: Count
    batch: Count = 128
    lr: Annotated[float, Field(gt=0, lt=1)] = 2e-4
    warmup: Annotated[int, Field(ge=0)] = 0
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    gradient_clip: Annotated[float, Field(gt=0)] = 1.0
    ema_decay: Decay = 0.999
    log_every: Count = 2_000
    validate_every: Count = 10_000
    checkpoint_every: Count = 25_000
    keep: Count = 10
    workers: Annotated[int, Field(ge=0)] = 2


class Sample(Section):
    """How images are drawn. steps: of the grid; eta: of DDIM; guidance: 1 is the conditional model, 0 the unconditional."""

    sampler: Literal["ddim", "ancestral"] = "ddim"
    steps: Count = 50
    eta: Share = 0.0
    guidance: float = 1.0


class Bound(Section):
    """The chain whose variational bound is the NLL: ``steps`` levels, equal in log-SNR, from t = 1 to t = ``last``.

    calls: of the network, an image; the chain's terms are estimated by that many, stratified.
    """

    steps: Annotated[int, Field(ge=2)] = 1000
    calls: Count = 50
    last: Annotated[float, Field(gt=0, lt=1)] = 0.02

    @model_validator(mode="after")
    def _covered(self) -> Bound:
        if self.calls >= self.steps:
            raise ValueError(f"calls must be below the chain's {self.steps} steps")
        return self


class Evaluate(Section):
    """What is measured. images: generated for the metrics; curve_images: for each point of FID over images seen."""

    extractor: str = "cnn"
    extractor_weights: str | None = None
    images: Annotated[int, Field(ge=50)] = 1250
    curve_images: Annotated[int, Field(ge=50)] = 500
    batch: Count = 125
    seed: int = 1


class Generate(Section):
    """The batch job. model: which registered one; unit: images in a unit of work, which is one shard."""

    model: str | None = None
    images: Count = 1000
    unit: Count = 250
    seed: int = 2
    workers: Annotated[int, Field(ge=0)] = 2


class Recipe(Section):
    """A model from its images to its samples. name: the registered model's; seed: of the training."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    seed: Annotated[int, Field(ge=0)] = 0
    data: Data
    model: Model
    train: Train
    sample: Sample = Sample()
    bound: Bound = Bound()
    evaluate: Evaluate = Evaluate()
    generate: Generate = Generate()

    @property
    def serving(self) -> str:
        """The registered model that the batch job generates from: its own champion, unless it says otherwise."""
        return self.generate.model or f"models:/{self.name}@champion"

    def training_hash(self, dataset_digest: str) -> str:
        """12 hex digits of what decides the trained weights, the code included: a run is known by it, however many
        workers it had. A training that is killed goes on; one whose code has changed since begins anew.
        """
        train = self.train.plain()
        for beside in ("workers", "keep", "log_every", "validate_every", "checkpoint_every"):
            del train[beside]
        decides = {"seed": self.seed, "data": dataset_digest, "model": self.model.plain(), "train": train}
        return digest(decides | {"code": code_digest()})

    def run_name(self, dataset_digest: str) -> str:
        return f"{self.name}-{self.training_hash(dataset_digest)[:8]}"


def digest(plain: Any) -> str:
    """12 hex digits of the sha256 of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:12]
