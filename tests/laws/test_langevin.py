"""Annealed Langevin dynamics on data whose score is a line: its steps, where they tend to, and how large they should be."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.optimize import minimize_scalar

from langevin.diffusion import grids
from langevin.diffusion.processes import Tweedie
from langevin.diffusion.samplers import AnnealedLangevin, walk
from langevin.diffusion.samplers.annealed_langevin import consistent_step_lr
from langevin.diffusion.schedules import GeometricVE

from .exact import SCHEDULES, Given, Mixture, Normal, float64, line, noise

LADDER = GeometricVE(0.01, 1.0)
X = torch.linspace(-3, 3, 24, dtype=torch.float64).reshape(12, 2)
Z = noise(12, seed=9).normal("z", X)


def test_a_step_is_the_published_one() -> None:
    """x += e score(x, sigma_i) + sqrt(2 e) z, e = step_lr (sigma_i / sigma_L)^2. Song & Ermon 2019, algorithm 1."""
    model = Mixture(LADDER, float64(-0.8, 0.1, 0.9), float64(0.05, 0.2, 0.1), float64(0.2, 0.5, 0.3))
    cond = torch.arange(12) % 3
    t, s = float64(5 / 9), float64(4 / 9)
    sigma_i = 0.01 ** (5 / 9)  # geometric from 1 to 0.01 in ten levels, of which this is the sixth
    e = 2e-5 * (sigma_i / 0.01) ** 2
    x = X
    for _ in range(3):
        x = x + e * Tweedie(model).score(x, s, cond) + math.sqrt(2 * e) * Z
    found = AnnealedLangevin(3, 2e-5)(model, X, t, s, cond, Given.of(Z))
    torch.testing.assert_close(found, x, rtol=1e-9, atol=1e-9)
    assert AnnealedLangevin() == AnnealedLangevin(100, 2e-5)


@pytest.mark.parametrize("t", [1.0, 0.5, 0.0])
def test_the_dynamics_carry_moments_by_their_recursion(t: float) -> None:
    """x - mean shrinks by (1 - e / V) a step and gains 2 e of variance: V = var + sigma^2 of Gaussian data."""
    model, steps, step_lr = Normal(LADDER, mean=0.3, var=0.04), 7, 3e-5
    sigma = float(LADDER(float64(t)).sigma)
    v, e = 0.04 + sigma**2, step_lr * (sigma / 0.01) ** 2
    found = line(model, AnnealedLangevin(steps, step_lr), float64(t, t), draws=steps)
    keep = 1 - e / v
    assert found.by_x == pytest.approx(keep**steps, rel=1e-12)
    assert found.offset == pytest.approx(0.3 * (1 - keep**steps), rel=1e-9)
    expected = [(2 * e) ** 0.5 * keep ** (steps - 1 - step) for step in range(steps)]
    assert found.by_z.tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("step_lr", [2e-5, 6e-5])
def test_the_dynamics_settle_near_the_marginal(step_lr: float) -> None:
    """At 2 e / (1 - (1 - e / V)^2) = V / (1 - e / (2 V)), from anywhere: the finite step's excess, and no more."""
    model, s = Normal(LADDER, mean=0.3, var=0.0), float64(0.3)
    v = float(LADDER(s).sigma) ** 2
    share = step_lr / 0.01**2
    mean, var = line(model, AnnealedLangevin(60, step_lr), float64(0.3, 0.3), draws=60).moments(5.0, 4.0)
    assert mean == pytest.approx(0.3, abs=1e-4)
    assert var == pytest.approx(v / (1 - share / 2), rel=1e-4)


def test_a_level_is_walked_where_the_step_arrives() -> None:
    """The score and the step's size are those of s, whatever t was."""
    model, s = Normal(LADDER), float64(0.4)
    ends = [AnnealedLangevin(2, 3e-5)(model, X, float64(t), s, None, Given.of(Z)) for t in (1.0, 0.4)]
    assert torch.equal(*ends)


def test_on_a_schedule_whose_signal_changes_x_is_scaled_along() -> None:
    """To the level's own signal before it is walked there."""
    schedule = SCHEDULES["cosine VP"]
    model, t, s = Normal(schedule), float64(0.6), float64(0.4)
    scaled = X * schedule(s).alpha / schedule(t).alpha
    found = AnnealedLangevin(2, 1e-4)(model, X, t, s, None, Given.of(Z))
    torch.testing.assert_close(found, AnnealedLangevin(2, 1e-4)(model, scaled, s, s, None, Given.of(Z)))


def test_a_ladder_is_walked_from_its_top_rung_to_its_lowest() -> None:
    """Every rung, the first and the last included, has its steps: the variance after the walk is the recursion's."""
    model, levels, steps, step_lr = Normal(LADDER, mean=0.3, var=0.04), 10, 20, 2e-5
    var = 1.0
    for rung in range(levels):
        sigma = 100 ** (-rung / 9)
        v, e = 0.04 + sigma**2, step_lr * (sigma / 0.01) ** 2
        for _ in range(steps):
            var = (1 - e / v) ** 2 * var + 2 * e
    found = line(model, AnnealedLangevin(steps, step_lr), grids.ladder(levels), draws=steps)
    assert found.moments(0.0, 1.0)[1] == pytest.approx(var, rel=1e-9)


def test_samples_of_a_mixture_find_its_modes() -> None:
    """NCSN's settings from uniform noise: the shares and the widths of two well separated modes."""
    model = Mixture(LADDER, float64(-0.7, 0.6), float64(1e-3, 4e-3), float64(0.3, 0.7))
    start = 2 * noise(1000).uniform("prior", torch.zeros(1000, 1, dtype=torch.float64)) - 1
    *_, end = walk(model, AnnealedLangevin(50, 2e-5), start, grids.ladder(10), None, noise(1000, seed=2))
    right = end > 0
    assert float(right.double().mean()) == pytest.approx(0.7, abs=0.06)
    assert float(end[right].mean()) == pytest.approx(0.6, abs=0.01)
    assert float(end[~right].mean()) == pytest.approx(-0.7, abs=0.01)


@pytest.mark.parametrize(
    ("sigma_max", "levels", "published"),
    [(50.0, 232, 6.2e-6), (90.0, 500, 3.3e-6)],
    ids=["CIFAR-10", "CelebA"],
)
def test_technique_4_gives_the_published_step(sigma_max: float, levels: int, published: float) -> None:
    """Song & Ermon 2020, table 4, of 5 steps a level down to 0.01; they print two digits."""
    found = consistent_step_lr((sigma_max / 0.01) ** (1 / (levels - 1)), 5, 0.01)
    assert found == pytest.approx(published, rel=0.02)


@pytest.mark.parametrize(("ratio", "steps", "sigma_min"), [(1.0376, 5, 0.01), (1.3, 3, 0.05), (1.7, 20, 0.01)])
def test_technique_4_keeps_the_variance_best(ratio: float, steps: int, sigma_min: float) -> None:
    """Simulated: of data at one point, x that was N(0, sigma_{i-1}^2) comes nearest to N(0, sigma_i^2) at this step.

    An independent minimiser finds the same step and the same variance, at any rung.
    """
    schedule = GeometricVE(sigma_min, sigma_min * ratio**9)
    point = Normal(schedule, mean=0.0, var=0.0)

    def variance(step_lr: float, rung: int) -> float:
        t, s = (rung + 1) / 9, rung / 9
        before, sigma_sq = (float(schedule(float64(time)).sigma) ** 2 for time in (t, s))
        walked = line(point, AnnealedLangevin(steps, step_lr), float64(t, s), draws=steps)
        return walked.moments(0.0, before)[1] / sigma_sq

    found = consistent_step_lr(ratio, steps, sigma_min)
    for rung in (0, 5):
        best = minimize_scalar(
            lambda share, rung=rung: variance(share * sigma_min**2, rung), bounds=(1e-6, 0.999), options={"xatol": 1e-7}
        )
        assert found == pytest.approx(best.x * sigma_min**2, rel=1e-3)
        assert 1 < variance(found, rung) <= best.fun + 1e-9


def test_steps_that_are_consistent_keep_sigma_down_the_whole_ladder() -> None:
    """x stays within a few percent of each level's deviation; of much smaller or larger steps it strays further."""
    levels = 232
    sigmas = GeometricVE(0.01, 50.0)(grids.ladder(levels)[1:]).sigma.tolist()
    best = consistent_step_lr(5000 ** (1 / (levels - 1)), 5, 0.01)
    strayed = {}
    for times in (1.0, 1 / 4, 6.0):
        var, share = 50.0**2, times * best / 0.01**2
        strayed[times] = 0.0
        for sigma in sigmas:
            for _ in range(5):
                var = (1 - share) ** 2 * var + 2 * share * sigma**2
            strayed[times] = max(strayed[times], abs(math.sqrt(var) / sigma - 1))
    assert strayed[1.0] < 0.07
    assert min(strayed[1 / 4], strayed[6.0]) > 1.5 * strayed[1.0]
