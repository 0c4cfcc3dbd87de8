"""Precision, recall, density and coverage against the papers' formulas written out, and what each of them sees."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from langevin.evaluation.bootstrap import Resampled
from langevin.evaluation.fidelity import precision_recall
from langevin.evaluation.neighbours import _Balls, _shares, neighbour_figures


def by_hand(generated: Tensor, real: Tensor) -> tuple[float, float, float, float]:
    """Precision, recall (k = 3), density, coverage (k = 5) by whole matrices of distances."""

    def inside(others: Tensor, centres: Tensor, k: int) -> Tensor:
        radius = torch.cdist(centres, centres).sort(dim=1).values[:, k]
        return torch.cdist(others, centres) <= radius

    precision = inside(generated, real, 3).any(dim=1).double().mean().item()
    recall = inside(real, generated, 3).any(dim=1).double().mean().item()
    balls = inside(generated, real, 5)
    return precision, recall, balls.sum().item() / 5 / len(generated), balls.any(dim=0).double().mean().item()


def sets(n: int = 180, m: int = 140, scale: float = 1.4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 6, generator=generator).double() * scale, torch.randn(m, 6, generator=generator).double()


def test_figures_are_the_papers() -> None:
    generated, real = sets()
    found = neighbour_figures(*(Resampled.of(one, 0, str(n), times=20) for n, one in enumerate((generated, real))))
    names = ("precision", "recall", "density", "coverage")
    assert tuple(found[name].value for name in names) == pytest.approx(by_hand(generated, real), abs=1e-6)
    assert all(found[name].low < found[name].value < found[name].high for name in names)
    assert [found[name].n for name in names] == [180, 140, 180, 140]


def test_a_resample_counts_copies() -> None:
    """The same as of sets in which images stand as often as they are drawn, but for copies as each other's neighbours."""
    generated, real = sets()
    once = (torch.ones(180, dtype=torch.int64), torch.ones(140, dtype=torch.int64))
    ours, theirs = _Balls.around(generated, real), _Balls.around(real, generated)
    whole = precision_recall(generated, real)
    assert _shares(ours, theirs, *once)[:2] == pytest.approx((whole.precision, whole.recall), abs=1e-6)
    some = torch.arange(180) % 3 > 0  # every third image is not drawn, the rest once
    kept = _shares(ours, theirs, some.long(), once[1])
    assert kept == pytest.approx(by_hand(generated[some], real), abs=1e-6)
    twice = _shares(ours, theirs, 2 * once[0], once[1])
    precision, _, density, coverage = by_hand(generated.repeat(2, 1), real)  # whose balls are those of the real alone
    assert (twice[0], twice[2], twice[3]) == pytest.approx((precision, density, coverage), abs=1e-6)


def test_one_outlier_among_the_real_images_pleases_precision_and_not_density() -> None:
    """Naeem et al. 2020, figure 2."""
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(200, 8, generator=generator)
    far = real[:1] + 40
    generated = far + torch.randn(150, 8, generator=generator)

    def figures(real: Tensor) -> tuple[float, float]:
        found = neighbour_figures(Resampled.of(generated, 0, "a", times=5), Resampled.of(real, 0, "b", times=5))
        return found["precision"].value, found["density"].value

    assert figures(real) == (0, 0)
    precision, density = figures(torch.cat([real, far]))
    assert precision > 0.9
    assert density < 0.25


def test_two_samples_of_one_distribution_have_density_and_coverage_near_one() -> None:
    """Naeem et al. 2020, lemmas 1 and 2: E density = 1, E coverage = 1 - 1/2^k for equally many."""
    generated, real = sets(1500, 1500, scale=1.0)
    found = neighbour_figures(Resampled.of(generated, 0, "a", times=5), Resampled.of(real, 0, "b", times=5))
    assert found["density"].value == pytest.approx(1, abs=0.05)
    assert found["coverage"].value == pytest.approx(1 - 1 / 2**5, abs=0.02)


def test_a_collapsed_model_is_measured() -> None:
    _, real = sets()
    same = real[:1].repeat(90, 1)
    found = neighbour_figures(Resampled.of(same, 0, "a", times=5), Resampled.of(real, 0, "b", times=5))
    assert found["precision"].value == 1
    assert found["coverage"].value < 0.2
