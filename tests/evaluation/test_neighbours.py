"""Precision, recall, density and coverage against the papers' formulas written out, and what each of them sees."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from langevin.evaluation.intervals import Figure
from langevin.evaluation.neighbours import neighbour_figures
from langevin.evaluation.sets import FeatureSet
from langevin.evaluation.spread import Influences


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


def figures_of(generated: Tensor, real: Tensor) -> dict[str, Figure]:
    return neighbour_figures(FeatureSet.of(generated, 0, "generated"), FeatureSet.of(real, 0, "reference"))


def test_figures_are_the_papers() -> None:
    generated, real = sets()
    found = figures_of(generated, real)
    names = ("precision", "recall", "density", "coverage")
    assert tuple(found[name].value for name in names) == pytest.approx(by_hand(generated, real), abs=1e-6)
    assert all(found[name].low < found[name].value < found[name].high for name in names)
    assert [found[name].n for name in names] == [180, 140, 180, 140]


@pytest.mark.parametrize("name", ["precision", "recall", "density", "coverage"])
def test_an_influence_is_what_changes_without_the_image(name: str) -> None:
    """The jackknife, by leaving each image out and measuring again."""
    pair = sets(60, 45)
    spread = figures_of(*pair)[name].spread
    assert isinstance(spread, Influences)
    sides = (1, 0) if name == "recall" else (0, 1)  # recall is of the real images
    for which, part in zip(sides, spread.parts, strict=True):
        without = torch.empty(len(pair[which]), dtype=torch.float64)
        for place in range(len(without)):
            kept = [one[torch.arange(len(one)) != place] if side == which else one for side, one in enumerate(pair)]
            without[place] = figures_of(*kept)[name].value
        expected = (len(without) - 1) * (without.mean() - without)
        found = (part.values - part.values.mean()) * (len(without) - 1) / len(without)
        torch.testing.assert_close(expected, found, atol=0.05 * float(found.std()) + 1e-6, rtol=0.05)


def test_one_outlier_among_the_real_images_pleases_precision_and_not_density() -> None:
    """Naeem et al. 2020, figure 2."""
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(200, 8, generator=generator)
    far = real[:1] + 40
    generated = far + torch.randn(150, 8, generator=generator)

    def figures(real: Tensor) -> tuple[float, float]:
        found = figures_of(generated, real)
        return found["precision"].value, found["density"].value

    assert figures(real) == (0, 0)
    precision, density = figures(torch.cat([real, far]))
    assert precision > 0.9
    assert density < 0.25


def test_two_samples_of_one_distribution_have_density_and_coverage_near_one() -> None:
    """Naeem et al. 2020, lemmas 1 and 2: E density = 1, E coverage = 1 - 1/2^k for equally many."""
    generated, real = sets(1500, 1500, scale=1.0)
    found = figures_of(generated, real)
    assert found["density"].value == pytest.approx(1, abs=0.05)
    assert found["coverage"].value == pytest.approx(1 - 1 / 2**5, abs=0.02)


def test_a_collapsed_model_is_measured() -> None:
    _, real = sets()
    same = real[:1].repeat(90, 1)
    found = figures_of(same, real)
    assert found["precision"].value == 1
    assert found["coverage"].value < 0.2
