"""One evaluation: draw samples, measure them, keep the figures with their spec, compare with another evaluation."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from langevin.errors import ConfigError, DataError, NumericsError
from langevin.evaluation.audit import AUDITED, Aspect, audit, looks
from langevin.evaluation.crew import ALONE, Crew, Work
from langevin.evaluation.extractors import Extractor
from langevin.evaluation.frechet import extrapolated, fid_figure, fid_figures
from langevin.evaluation.inception import inception_figure
from langevin.evaluation.intervals import Figure
from langevin.evaluation.judge import Verdicts
from langevin.evaluation.kid import kid_figure
from langevin.evaluation.memorisation import authenticity
from langevin.evaluation.neighbours import neighbour_figures
from langevin.evaluation.sets import FeatureSet
from langevin.evaluation.specification import MetricSpec, plain
from langevin.protocols import Cond, Samples, on_device, rows
from langevin.randomness import Keys, Noise

FEWEST = 50  # images a set: below, ten splits and a covariance have nothing to stand on


@dataclass(frozen=True)
class Evaluation:
    """What was measured. figures: by name; classes: the share that the judge recognised, by the class's number;
    seconds: of the whole evaluation; network_calls: what one sample cost, None where unknown; audit: what is generated
    too often or too seldom, by aspect.
    """

    spec: MetricSpec
    figures: Mapping[str, Figure]
    classes: Mapping[str, Figure] = field(default_factory=dict)
    seconds: float = 0.0
    network_calls: int | None = None
    audit: Mapping[str, Aspect] = field(default_factory=dict)

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
            figures, classes = _figures(found.pop("figures")), _figures(found.pop("classes"))
            audited = {name: Aspect.of_json(fields) for name, fields in found.pop("audit", {}).items()}
            evaluation = cls(spec, figures, classes, **found, audit=audited)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"this is no evaluation: {error!r}", mend="evaluate again") from error
        if spec.hash != claimed:
            raise DataError("the spec was changed", field="spec_hash", value=claimed, mend="evaluate again")
        return evaluation


@dataclass(frozen=True)
class _Sampling(Work[range, Tensor]):
    """Samples of a seed, by their ordinals, as they are kept. cond: of all of them."""

    cond: Cond
    seed: int
    kept: Callable[[Tensor], Tensor]

    def do(self, item: range) -> Tensor:
        keys = Keys.range(self.seed, item.start, item.stop).to(self.device)
        images = self.model.sample(keys, on_device(rows(self.cond, item.start, item.stop), self.device)).cpu()
        broken = (~images.flatten(1).isfinite().all(dim=1)).nonzero()[:, 0] + item.start
        if len(broken):
            raise NumericsError(
                f"{len(broken)} samples of seed {self.seed} are not finite, the first of them {broken[0]}"
            )
        return self.kept(images)


def draw(
    model: Samples,
    cond: Cond,
    count: int,
    seed: int,
    batch: int,
    progress: Callable[[int], None] | None = None,
    crew: Crew = ALONE,
    first: int = 0,
    kept: Callable[[Tensor], Tensor] = torch.Tensor.contiguous,
) -> Tensor:
    """``count`` samples: (N, C, H, W) float32 in [-1, 1] on the CPU; sample i depends on seed, i and condition i alone.

    cond: of all of them, such as (N,) int64 labels; batch: samples at a time, another one moves a sample by rounding
    only; crew: who draws; first: the sample to begin with, of which ``count`` is the one after the last; kept: what is
    made of the samples of a batch, by who draws it; progress: called with the number done so far. Raises NumericsError
    that names a sample that is not finite.
    """
    if batch < 1:
        raise ConfigError("is not a number of samples at a time", field="batch", value=batch, mend="give at least 1")
    if count <= first:
        raise ConfigError("there is nothing to draw", field="count", value=count, mend="draw at least one sample")
    parts = [range(start, min(start + batch, count)) for start in range(first, count, batch)]
    finished: list[int] = []

    def done(part: range) -> None:
        finished.append(len(part))
        if progress:
            progress(sum(finished))

    return torch.cat(crew.map(_Sampling(model, cond, seed, kept), parts, done))


@dataclass(frozen=True)
class RealImages:
    """Images of a split: (N, C, H, W) uint8; labels: (N,) int64, None where there are none; features: (N, d), None where
    they are not known yet.
    """

    images: Tensor
    labels: Tensor | None = None
    features: Tensor | None = None

    def seen_by(self, extractor: Extractor) -> Tensor:
        """(N, d) float32."""
        return extractor.features(self.images).features if self.features is None else self.features


def evaluate_samples(
    generated: Tensor,
    labels: Tensor,
    reference: RealImages,
    train: RealImages,
    extractor: Extractor,
    judge: Verdicts,
    seed: int = 0,
) -> dict[str, Figure]:
    """FID with its floor and what it would be at other n, KID, inception score, precision, recall, density, coverage,
    authenticity, recognised, all from one pass of features.

    generated: (N, C, H, W) uint8; labels: (N,) int64, what was asked of each; reference: the test split. The floor is the
    FID of as many training images as were generated (of all, where there are fewer) against the reference.
    """
    _enough(len(generated), len(reference.images), len(train.images), extractor.dim)
    found, real, seen = extractor.features(generated), reference.seen_by(extractor), train.seen_by(extractor)
    ours = FeatureSet.of(found.features, seed, "generated", labels)
    theirs = FeatureSet.of(real, seed, "reference", reference.labels)
    some = chosen(len(train.images), len(generated), seed)
    known = FeatureSet.of(seen[some], seed, "train", None if train.labels is None else train.labels[some])
    fids = fid_figures(ours, theirs, known)
    return {
        "fid": fids.fid,
        "fid_floor": fids.floor,
        "fid_ratio": fids.ratio,
        **extrapolated(fids.fid, ours, theirs),
        "kid": kid_figure(ours, theirs, seed),
        "inception_score": inception_figure(found.logits, labels, seed),
        **neighbour_figures(ours, theirs),
        "authenticity": authenticity(found.features, seen),
        "authenticity_floor": authenticity(real, seen),
        "recognised": judge.recognised(generated, labels),
    }


def evaluate_fd(
    generated: Tensor, labels: Tensor, reference: RealImages, train: RealImages, extractor: Extractor, seed: int = 0
) -> dict[str, Figure]:
    """fd_NAME, fd_NAME_floor: Fréchet distance by another extractor's features. Arguments as of ``evaluate_samples``."""
    some = chosen(len(train.images), len(generated), seed)
    ours = FeatureSet.of(extractor.features(generated).features, seed, "generated", labels)
    theirs = FeatureSet.of(reference.seen_by(extractor), seed, "reference", reference.labels)
    known = train.seen_by(extractor)[some], None if train.labels is None else train.labels[some]
    name = f"fd_{extractor.name}"
    floor = fid_figure(FeatureSet.of(known[0], seed, "train", known[1]), theirs)
    return {name: fid_figure(ours, theirs), f"{name}_floor": floor}


def audit_samples(
    generated: Tensor, train: RealImages, judge: Verdicts, classes: Sequence[str], seed: int = 0
) -> dict[str, Aspect]:
    """What is generated too often or too seldom: what the judge sees, brightness, colours. Of 10,000 images a set at most.

    generated: (N, C, H, W) uint8; classes: their names, by label. The judge looks at both sets, so that its own leanings
    are in both shares.
    """
    some = train.images[chosen(len(train.images), AUDITED, seed)]
    ours = generated[:AUDITED]
    seen, known = (judge.tables(images, classes) | looks(images, some) for images in (ours, some))
    return audit(seen, known, seed)


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


def chosen(count: int, size: int, seed: int) -> Tensor:
    """The places of ``size`` of so many images (all, where there are fewer), drawn by the seed: a data set may be stored
    by class.
    """
    like = torch.empty(count, dtype=torch.float64)
    return Noise(Keys.range(seed, 0, count)).uniform("floor", like).argsort()[:size]


def _said(figures: Mapping[str, Figure]) -> dict[str, Any]:
    return {name: figure.plain() for name, figure in figures.items()}


def _figures(table: Mapping[str, Mapping[str, float]]) -> dict[str, Figure]:
    return {name: Figure(**fields) for name, fields in table.items()}  # type: ignore[arg-type]
