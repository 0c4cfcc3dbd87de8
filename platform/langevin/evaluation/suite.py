"""One evaluation: draw samples, measure them, keep the figures with their spec, compare with another evaluation."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from langevin.errors import ConfigError, DataError, NumericsError
from langevin.evaluation.bootstrap import RESAMPLES, Resampled, fid_figures, kid_figure, precision_recall_figures
from langevin.evaluation.extractors import Extractor
from langevin.evaluation.fidelity import inception_score, kid
from langevin.evaluation.intervals import Figure, inception_figure
from langevin.evaluation.judge import Verdicts
from langevin.evaluation.specification import MetricSpec, plain
from langevin.evaluation.threads import in_threads
from langevin.protocols import Cond, Samples, on_device, rows
from langevin.randomness import Keys, Noise

FEWEST = 50  # images a set: below, ten splits and a covariance have nothing to stand on
HIGHER_IS_BETTER = frozenset({"inception_score", "precision", "recall", "recognised", "psnr"})
FLOORS = frozenset({"fid_floor"})  # say something about the data, not about the model


@dataclass(frozen=True)
class Evaluation:
    """What was measured. figures: by name; classes: the share that the judge recognised, by the class's number;
    seconds: of the whole evaluation; network_calls: what one sample cost, None where unknown.
    """

    spec: MetricSpec
    figures: Mapping[str, Figure]
    classes: Mapping[str, Figure] = field(default_factory=dict)
    seconds: float = 0.0
    network_calls: int | None = None

    def to_json(self) -> str:
        """Plain JSON with sorted keys and floats of 6 digits: the same evaluation gives the same bytes."""
        said = asdict(self) | {"figures": _said(self.figures), "classes": _said(self.classes)}
        return json.dumps(plain(said) | {"spec_hash": self.spec.hash}, indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Evaluation:
        """Read ``to_json`` back. Raises DataError where the text is none, or its spec is not the one of its hash."""
        try:
            found = json.loads(text)
            claimed = found.pop("spec_hash")
            spec = MetricSpec(**found.pop("spec"))
            evaluation = cls(spec, _figures(found.pop("figures")), _figures(found.pop("classes")), **found)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"this is no evaluation: {error!r}", mend="evaluate again") from error
        if spec.hash != claimed:
            raise DataError("the spec was changed", field="spec_hash", value=claimed, mend="evaluate again")
        return evaluation


@dataclass(frozen=True)
class Comparison:
    """One figure in two evaluations. change: after - before; margin: its 95 % half-width; gain: > 0 is better; paired: whether
    what the two share is not in the margin.
    """

    before: Figure
    after: Figure
    change: float
    margin: float
    gain: float
    paired: bool = False

    @property
    def better(self) -> bool:
        """Better by more than the interval."""
        return self.gain > self.margin

    @property
    def worse(self) -> bool:
        """Worse by more than the interval."""
        return -self.gain > self.margin


def compare(before: Evaluation, after: Evaluation, paired: Mapping[str, Figure] | None = None) -> dict[str, Comparison]:
    """The figures that both have. paired: their differences where both were measured side by side (paired.py); without, the
    two are taken to be independent. Raises ConfigError that names what differs where the specs do.
    """
    if before.spec.hash != after.spec.hash:
        differing = before.spec.differences(after.spec)
        found = "; ".join(f"{name}: {ours!r} against {theirs!r}" for name, (ours, theirs) in differing.items())
        raise ConfigError(
            f"results of different specs are not compared: {found}",
            field="spec",
            value=f"{before.spec.hash} against {after.spec.hash}",
            mend="evaluate both with one spec",
        )
    names = [name for name in before.figures if name in after.figures and name not in FLOORS]
    return {
        name: _comparison(name, before.figures[name], after.figures[name], (paired or {}).get(name)) for name in names
    }


def draw(
    model: Samples,
    cond: Cond,
    count: int,
    seed: int,
    batch: int,
    progress: Callable[[int], None] | None = None,
    device: torch.device | str = "cpu",
    threads: int = 1,
    first: int = 0,
) -> Tensor:
    """``count`` samples: (N, C, H, W) float32 in [-1, 1] on the CPU; sample i depends on seed, i and condition i alone.

    cond: of all of them, such as (N,) int64 labels; batch: samples at a time, another one moves a sample by rounding
    only; threads: batches at a time; first: the sample to begin with, of which ``count`` is the one after the last;
    progress: called with the number done so far. Raises NumericsError that names a
    sample that is not finite.
    """
    if batch < 1:
        raise ConfigError("is not a number of samples at a time", field="batch", value=batch, mend="give at least 1")
    if count <= first:
        raise ConfigError("there is nothing to draw", field="count", value=count, mend="draw at least one sample")
    finished: list[int] = []  # appended to by the threads; list.append is atomic

    @torch.no_grad()
    def part(start: int) -> Tensor:
        stop = min(start + batch, count)
        asked = on_device(rows(cond, start, stop), device)
        images = model.sample(Keys.range(seed, start, stop).to(device), asked).cpu()
        broken = (~images.flatten(1).isfinite().all(dim=1)).nonzero()[:, 0] + start
        if len(broken):
            raise NumericsError(f"{len(broken)} samples of seed {seed} are not finite, the first of them {broken[0]}")
        finished.append(stop - start)
        if progress:
            progress(sum(finished))
        return images

    return torch.cat(in_threads(part, range(first, count, batch), threads))


@dataclass(frozen=True)
class RealImages:
    """Images of a split: (N, C, H, W) uint8; labels: (N,) int64, None where there are none."""

    images: Tensor
    labels: Tensor | None = None


def evaluate_samples(
    generated: Tensor,
    labels: Tensor,
    reference: RealImages,
    train: RealImages,
    extractor: Extractor,
    judge: Verdicts,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Figure]:
    """fid, fid_floor, fid_ratio, kid, inception_score, precision, recall, recognised, all from one pass of features.

    generated: (N, C, H, W) uint8; labels: (N,) int64, what was asked of each; reference: the test split. The floor is the
    FID of as many training images as were generated (of all, where there are fewer) against the reference.
    """
    _enough(len(generated), len(reference.images), len(train.images), extractor.dim)
    floor = _subset(train, len(generated), seed)
    found, real = extractor.features(generated), extractor.features(reference.images)
    ours = Resampled.of(found.features, seed, "generated", labels, resamples)
    theirs = Resampled.of(real.features, seed, "reference", reference.labels, resamples)
    known = Resampled.of(extractor.features(floor.images).features, seed, "train", floor.labels, resamples)
    fids = fid_figures(ours, theirs, known)
    precision, recall = precision_recall_figures(ours, theirs)
    return {
        "fid": fids.fid,
        "fid_floor": fids.floor,
        "fid_ratio": fids.ratio,
        "kid": kid_figure(kid(found.features, real.features, seed), ours, theirs),
        "inception_score": inception_figure(inception_score(found.logits, seed), len(generated)),
        "precision": precision,
        "recall": recall,
        "recognised": judge.recognised(generated, labels),
    }


def _enough(generated: int, reference: int, train: int, dim: int) -> None:
    for name, count in (("generated", generated), ("reference", reference), ("train", train)):
        if count < FEWEST:
            mend = f"give at least {FEWEST}"
            raise ConfigError("are too few images to measure", field=name, value=count, mend=mend)
    if min(generated, reference) < dim:
        warnings.warn(
            f"FID of {generated} against {reference} images in {dim} dimensions: fewer images than dimensions, "
            "the covariances are singular",
            stacklevel=3,
        )


def _subset(real: RealImages, size: int, seed: int) -> RealImages:
    """``size`` of the images, drawn by the seed: a data set may be stored by class."""
    keys = Keys.range(seed, 0, len(real.images))
    chosen = Noise(keys).uniform("floor", torch.empty(len(keys), dtype=torch.float64)).argsort()[:size]
    return RealImages(real.images[chosen], None if real.labels is None else real.labels[chosen])


def _comparison(name: str, before: Figure, after: Figure, paired: Figure | None) -> Comparison:
    change = after.value - before.value
    margin = paired.margin if paired else (before.margin**2 + after.margin**2) ** 0.5
    gain = change if _higher_is_better(name) else -change
    return Comparison(before, after, change, margin, gain, paired is not None)


def _higher_is_better(name: str) -> bool:
    return name in HIGHER_IS_BETTER or name.startswith(("caption_", "heldout_"))


def _said(figures: Mapping[str, Figure]) -> dict[str, Any]:
    return {name: figure.plain() for name, figure in figures.items()}


def _figures(table: Mapping[str, Mapping[str, float]]) -> dict[str, Figure]:
    return {name: Figure(**fields) for name, fields in table.items()}  # type: ignore[arg-type]
