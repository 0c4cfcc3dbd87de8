"""Inception score: exp E KL(p(y|x) || p(y)), the mean over splits of shuffled images. Salimans et al. 2016."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from langevin.evaluation.compatibility import fidelity_part
from langevin.evaluation.intervals import Figure, influenced
from langevin.evaluation.spread import Part

SPLITS = 10


@dataclass(frozen=True)
class InceptionScore:
    """exp of the mutual information of image and class. mean, deviation (population): over disjoint splits."""

    mean: float
    deviation: float
    splits: int


def inception_score(logits: Tensor, seed: int, splits: int = SPLITS) -> InceptionScore:
    """By torch-fidelity. logits: (N, classes)."""
    part = fidelity_part("metric_isc")
    found = part.isc_features_to_metric(logits, splits, True, seed % 2**32)
    return InceptionScore(found[part.KEY_METRIC_ISC_MEAN], found[part.KEY_METRIC_ISC_STD], splits)


def inception_figure(logits: Tensor, strata: Tensor, seed: int) -> Figure:
    """With its interval: an image's influence on the mutual information is its own KL(p(y|x) || p(y)), because p(y) is where
    the mean of them is least. Which images share a split is the seed's choice and counts for nothing. strata: (N,), whose
    numbers of images are a choice too.
    """
    score = inception_score(logits, seed).mean
    log_each = logits.double().log_softmax(dim=1)
    log_all = log_each.logsumexp(dim=0) - log_each.new_tensor(len(logits)).log()
    apart = (log_each.exp() * (log_each - log_all)).sum(dim=1)
    return influenced(score, (Part(score * apart, strata),), len(logits), lowest=1)
