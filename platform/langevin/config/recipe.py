"""The recipe: one YAML file that says everything about a model, from its images to its samples. Frozen and strict."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from langevin.config import frozen
from langevin.config.code import code_digest
from langevin.config.model import Model
from langevin.config.sampling import Bound, Sample
from langevin.config.section import Count, Section
from langevin.training.precision import Precision

Decay = Annotated[float, Field(ge=0, lt=1)]


class Data(Section):
    """Where the images come from, where the shards lie, and how they are split. Paths are relative to the home folder.

    images: the folder of source folder; size: pixels a side; classes: how many class folders are in it, for what is asked
    before they are there (`langevin show --plan`); count: images of source shapes; objects: in one of them, at most;
    reduced_from: pixels a side of which ``size`` are the means over blocks, so that a cascade's small images are its large
    ones made smaller.
    """

    source: Literal["digits", "folder", "shapes"]
    root: str
    images: str | None = None
    size: Count | None = None
    classes: Count | None = None
    count: Count | None = None
    objects: Annotated[int, Field(ge=1, le=3)] | None = None
    reduced_from: Count | None = None
    channels: Literal[1, 3] = 3
    splits: dict[str, Annotated[float, Field(gt=0, lt=1)]] = Field({"train": 0.7, "validation": 0.1, "test": 0.2})
    shard_samples: Count = 1024

    @model_validator(mode="after")
    def _complete(self) -> Data:
        if self.source == "folder" and (self.images is None or self.size is None):
            raise ValueError("source folder needs images (the folder) and size (pixels a side)")
        if self.source != "folder" and self.classes is not None:
            raise ValueError(f"classes is for source folder, and {self.source} has its own")
        if self.source == "shapes" and (self.count is None or self.size is None):
            raise ValueError("source shapes needs count (of images) and size (pixels a side)")
        if self.source != "shapes" and self.objects is not None:
            raise ValueError("objects is for source shapes")
        if self.reduced_from and (self.size is None or self.reduced_from % self.size):
            raise ValueError(f"reduced_from must be a multiple of size, which is {self.size}")
        if missing := {"train", "validation", "test"} - self.splits.keys():
            raise ValueError(f"splits lacks {', '.join(sorted(missing))}")
        return self


class Latents(Section):
    """Latent diffusion: the model is one of latents, which `langevin encode` writes once to ``root``.

    codec: the name of the recipe whose trained autoencoder makes them.
    """

    codec: str
    root: str


class Upsampling(Section):
    """A stage of a cascade: the model is told the image at ``lower`` pixels a side, made worse by an augmentation.

    noise: diffused to a level up to ``largest`` that the model is told; blur: half of them blurred. level: at which real
    smaller images are given when the stage is evaluated alone. target: what is modelled, the image or its residual, which is
    the difference from the smaller one enlarged.
    """

    lower: Count
    target: Literal["image", "residual"] = "image"
    augmentation: Literal["noise", "blur", "none"] = "noise"
    largest: Annotated[float, Field(gt=0, lt=1)] = 0.5
    level: Annotated[float, Field(ge=0, lt=1)] = 0.0


class WarmStart(Section):
    """The checkpoint, relative to the home folder, whose whole state a training goes on from: weights, averages, optimiser
    and images seen. sha256: of its averaged weights, as `langevin train` says it.
    """

    checkpoint: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Train(Section):
    """How it is trained. Everything named ..._every, ...images, batch and warmup counts images over all workers.

    decay: of the learning rate after the warm-up; decay_images: of inverse_sqrt, up to where it is flat. precision: in
    which networks multiply while they learn; accumulate: in how many parts a worker takes its share of a batch, one after
    the other, for less memory. ema_stds: lengths of power-function averages as shares of the training, the first of which
    serves in the place of the one of ema_decay; snapshot_every: how often they are kept, for averages of any other length
    after the training. warm_start: where it begins, if not at the beginning, so that ``images`` are in all.
    """

    images: Count
    batch: Count = 128
    lr: Annotated[float, Field(gt=0, lt=1)] = 2e-4
    decay: Literal["cosine", "inverse_sqrt", "constant"] = "cosine"
    decay_images: Count | None = None
    warmup: Annotated[int, Field(ge=0)] = 0
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    gradient_clip: Annotated[float, Field(gt=0)] = 1.0
    precision: Precision = "fp32"
    accumulate: Count = 1
    ema_decay: Decay = 0.999
    ema_stds: tuple[Annotated[float, Field(gt=0, lt=0.29)], ...] = ()
    log_every: Count = 2_000
    validate_every: Count = 10_000
    checkpoint_every: Count = 25_000
    snapshot_every: Count = 25_000
    keep: Count = 10
    workers: Annotated[int, Field(ge=0)] = 2
    warm_start: WarmStart | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Train:
        if (self.decay == "inverse_sqrt") != (self.decay_images is not None):
            raise ValueError("decay inverse_sqrt and decay_images (up to where it is flat) need each other")
        if len(set(self.ema_stds)) < len(self.ema_stds):
            raise ValueError("ema_stds names a length twice")
        return self


class Evaluate(Section):
    """What is measured. images: generated for the metrics; curve_images: for each point of FID over images seen.

    beside: whether these points are made while `langevin train` goes on, of each checkpoint by a task of its own; those
    that come while one is evaluated are thinned to the newest.

    extractor: cnn, trained on the data set; the folder of another recipe's, such as out/RECIPE/extractor; or
    inception-v3-compat, by the file extractor_weights. dinov2, clip: folders of such models of transformers, for FD with
    DINOv2's features, and for the CLIP score of models that read.

    workers: processes that draw and look, a CPU each and a GPU where the cluster has them; 0: threads of one.
    """

    extractor: str = "cnn"
    extractor_weights: str | None = None
    dinov2: str | None = None
    clip: str | None = None
    images: Annotated[int, Field(ge=50)] = 1250
    curve_images: Annotated[int, Field(ge=50)] = 500
    beside: bool = False
    workers: Annotated[int, Field(ge=0)] = 0
    batch: Count = 125
    seed: int = 1


class Promote(Section):
    """When the evaluated checkpoint takes the champion's place, by figures of its evaluation (fid, kid, nll, recall, ...).

    better: in every one of these by more than the interval of the difference, FID (a codec's rFID) where none is named;
    no_worse: in none of these worse by more than it.
    """

    better: tuple[str, ...] = ()
    no_worse: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _once(self) -> Promote:
        names = (*self.better, *self.no_worse)
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{twice[0]} is named twice")
        return self


class Generate(Section):
    """The batch job. model: which registered one; unit: images in a unit of work, which is one shard; prompts: a file of
    what a model that reads is asked for, one text a line, None for the captions of the data set's test images.
    """

    model: str | None = None
    prompts: str | None = None
    images: Count = 1000
    unit: Count = 250
    seed: int = 2
    workers: Annotated[int, Field(ge=0)] = 2


class Report(Section):
    """The page of the model. beside: other recipes by their names, measured alike, whose figures stand beside its own."""

    beside: tuple[str, ...] = ()


class Recipe(Section):
    """A model from its images to its samples. name: the registered model's; seed: of the training."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    seed: Annotated[int, Field(ge=0)] = 0
    data: Data
    model: Model
    latents: Latents | None = None
    upsampling: Upsampling | None = None
    train: Train
    sample: Sample = Sample()
    bound: Bound = Bound()
    evaluate: Evaluate = Evaluate()
    promote: Promote = Promote()
    generate: Generate = Generate()
    report: Report = Report()

    @property
    def serving(self) -> str:
        """The registered model that the batch job generates from: its own champion, unless it says otherwise."""
        return self.generate.model or f"models:/{self.name}@champion"

    @property
    def training_root(self) -> str:
        """The data set that the training reads: the images, or their latents, which name their images and their codec."""
        return self.latents.root if self.latents else self.data.root

    def training_hash(self, dataset_digest: str, parts: Sequence[str] = ()) -> str:
        """12 hex digits of what decides the trained weights, the code included: a run is known by it, however many
        workers it had. A training that is killed goes on; one whose code has changed since begins anew. parts: sha256 of
        the models that it is put together of.
        """
        train = self.train.plain()
        start = train.pop("warm_start")
        for beside in ("workers", "keep", "log_every", "validate_every", "checkpoint_every", "snapshot_every"):
            del train[beside]
        decides = {"seed": self.seed, "data": dataset_digest, "model": self.model.plain(), "train": train}
        if self.upsampling:
            decides["upsampling"] = self.upsampling.plain()
        if weights := getattr(self.model, "perceptual", None):
            decides["perceptual"] = frozen.sha256(weights)
        if start:
            decides["warm_start"] = start["sha256"]  # wherever it lies
        if parts:
            decides["parts"] = list(parts)
        return digest(decides | {"code": code_digest()})

    def run_name(self, dataset_digest: str, parts: Sequence[str] = ()) -> str:
        return run_name(self.name, self.training_hash(dataset_digest, parts))


def run_name(recipe: str, training_hash: str) -> str:
    """As MLflow and the folder ``runs`` know a training."""
    return f"{recipe}-{training_hash[:8]}"


def digest(plain: Any) -> str:
    """12 hex digits of the sha256 of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:12]
