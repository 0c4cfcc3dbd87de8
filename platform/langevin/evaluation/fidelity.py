"""FID, KID, inception score, precision and recall of features, by the formulas of torch-fidelity 0.4.0.

Where torch-fidelity has a function of features, it is called. FID is written out, because torch-fidelity takes the
eigenvalues of a matrix that is not symmetric, which loses half of the digits where a covariance is nearly singular.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from langevin.evaluation.compatibility import fidelity_part
from langevin.evaluation.statistics import Moments

KID_SUBSETS, KID_SUBSET_LIMIT, INCEPTION_SPLITS, NEIGHBOURS, DENSITY_NEIGHBOURS = 100, 1000, 10, 3, 5
FORMULAS = (
    f"torch-fidelity 0.4.0; KID: {KID_SUBSETS} subsets of min({KID_SUBSET_LIMIT}, n/2); "
    f"inception score: {INCEPTION_SPLITS} splits; precision, recall: k = {NEIGHBOURS}; "
    f"density, coverage: k = {DENSITY_NEIGHBOURS}; FID's interval by influence"
)


@dataclass(frozen=True)
class Kid:
    """Kernel distance. mean, deviation (population): over so many random subsets of so many images (size)."""

    mean: float
    deviation: float
    subsets: int
    size: int


@dataclass(frozen=True)
class InceptionScore:
    """exp of the mutual information of image and class. mean, deviation (population): over disjoint splits."""

    mean: float
    deviation: float
    splits: int


@dataclass(frozen=True)
class PrecisionRecall:
    """Shares in [0, 1] of generated images near real ones (precision), of real images near generated ones (recall)."""

    precision: float
    recall: float


def fid(a: Moments, b: Moments) -> float:
    """|mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^{1/2}) >= 0. Heusel et al. 2017, eq. 6.

    tr (S_a S_b)^{1/2} is the sum of the roots of the eigenvalues of S_a^{1/2} S_b S_a^{1/2}, which are the singular
    values of S_b^{1/2} S_a^{1/2}. As such they keep their digits: the root of a zero rounded to 1e-16 is 1e-8.
    """
    shift = a.mean - b.mean
    cross = torch.linalg.svdvals(root(b.covariance) @ root(a.covariance)).sum()
    distance = shift @ shift + a.covariance.trace() + b.covariance.trace() - 2 * cross
    return max(float(distance), 0.0)


def kid_subset_size(generated: int, reference: int) -> int:
    """Half of the smaller set at most, so that the subsets differ; 1,000 at most."""
    return min(KID_SUBSET_LIMIT, generated // 2, reference // 2)


def kid(generated: Tensor, reference: Tensor, seed: int, subset: int | None = None, subsets: int = KID_SUBSETS) -> Kid:
    """Squared MMD, kernel (x.y/d + 1)^3, unbiased, over random subsets. Features (N, d). Binkowski et al. 2018."""
    size = kid_subset_size(len(generated), len(reference)) if subset is None else subset
    part = fidelity_part("metric_kid")
    found = part.kid_features_to_metric(
        generated, reference, kid_subsets=subsets, kid_subset_size=size, rng_seed=seed % 2**32, verbose=False
    )
    return Kid(found[part.KEY_METRIC_KID_MEAN], found[part.KEY_METRIC_KID_STD], subsets, size)


def kernel(a: Tensor, b: Tensor) -> Tensor:
    """KID's kernel between all pairs: (N, d), (M, d) -> (N, M)."""
    return (a @ b.T / a.shape[1] + 1) ** 3


def inception_score(logits: Tensor, seed: int, splits: int = INCEPTION_SPLITS) -> InceptionScore:
    """exp E KL(p(y|x) || p(y)), the mean over splits of shuffled images. Salimans et al. 2016. logits: (N, classes)."""
    part = fidelity_part("metric_isc")
    found = part.isc_features_to_metric(logits, splits, True, seed % 2**32)
    return InceptionScore(found[part.KEY_METRIC_ISC_MEAN], found[part.KEY_METRIC_ISC_STD], splits)


def precision_recall(generated: Tensor, reference: Tensor, neighbours: int = NEIGHBOURS) -> PrecisionRecall:
    """Shares within k-nearest-neighbour balls of the other set. Features (N, d). Kynkäänniemi et al. 2019, eq. 1."""
    part = fidelity_part("metric_prc")
    found = part.prc_features_to_metric(
        generated, reference, prc_neighborhood=neighbours, prc_batch_size=10_000, save_cpu_ram=False, verbose=False
    )
    return PrecisionRecall(found[part.KEY_METRIC_PRECISION], found[part.KEY_METRIC_RECALL])


def root(covariance: Tensor) -> Tensor:
    """The symmetric square root of a positive semidefinite matrix."""
    values, vectors = torch.linalg.eigh(covariance)
    # rounding leaves the eigenvalues of a singular covariance slightly below zero
    found: Tensor = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    return found
