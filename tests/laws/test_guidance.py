"""Guidance on a mixture of Gaussians whose scores are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from langevin.diffusion.denoiser import Prediction
from langevin.diffusion.guidance import ClassifierFree
from langevin.diffusion.schedules import Schedule

from .exact import SCHEDULES, Mixture, float64

X = torch.linspace(-3, 3, 60, dtype=torch.float64).reshape(30, 2)
T = torch.linspace(0.1, 0.9, 30, dtype=torch.float64)
COND = torch.arange(30) % 3
ALL = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


def mixture(schedule: Schedule) -> Mixture:
    return Mixture(schedule, float64(-0.8, 0.1, 0.9), float64(0.05, 0.2, 0.1), float64(0.2, 0.5, 0.3))


def score(model: Mixture, cond: Tensor | None) -> Tensor:
    """grad log q(x_t | cond), by automatic differentiation of the density."""
    x = X.clone().requires_grad_()
    return torch.autograd.grad(model.log_density(x, T, cond).sum(), x)[0]


def score_of(prediction: Prediction, schedule: Schedule) -> Tensor:
    level = schedule(T).against(X)
    return (level.alpha * prediction.x0 - X) / level.sigma**2


@ALL
def test_the_exact_denoiser_is_the_score(schedule: Schedule) -> None:
    """Tweedie's formula, so that the mixture below is worth comparing with."""
    model = mixture(schedule)
    for cond in (None, COND):
        torch.testing.assert_close(score_of(model(X, T, cond), schedule), score(model, cond), rtol=1e-7, atol=1e-7)


@ALL
@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 2.5, 7.0])
def test_the_score_moves_from_unconditional_to_conditional_and_beyond(schedule: Schedule, scale: float) -> None:
    """s_u + scale (s_c - s_u); Ho & Salimans 2022, eq. 6 with scale = 1 + w."""
    model = mixture(schedule)
    guided = ClassifierFree(model, scale)
    expected = score(model, None) + scale * (score(model, COND) - score(model, None))
    torch.testing.assert_close(score_of(guided(X, T, COND), schedule), expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_a_classifier_at_the_scale_is_the_same(scale: float) -> None:
    """s_u + scale grad log p(y | x_t): Bayes' rule. Dhariwal & Nichol 2021, section 4.1."""
    schedule = SCHEDULES["cosine VP"]
    model = mixture(schedule)
    x = X.clone().requires_grad_()
    log_classifier = model.log_density(x, T, COND) + torch.log(model.weights[COND])[:, None] - model.log_density(x, T)
    gradient = torch.autograd.grad(log_classifier.sum(), x)[0]
    found = score_of(ClassifierFree(model, scale)(X, T, COND), schedule)
    torch.testing.assert_close(found, score(model, None) + scale * gradient, rtol=1e-7, atol=1e-7)


def test_scale_1_is_the_conditional_model_and_0_the_unconditional_one() -> None:
    model = mixture(SCHEDULES["cosine VP"])
    assert torch.equal(ClassifierFree(model, 1.0)(X, T, COND).x0, model(X, T, COND).x0)
    assert torch.equal(ClassifierFree(model, 0.0)(X, T, COND).x0, model(X, T, None).x0)
    assert ClassifierFree(model, 2.0).schedule is model.schedule


def test_the_null_condition_may_be_any() -> None:
    """Away from another class: negative guidance."""
    model, other = mixture(SCHEDULES["cosine VP"]), (COND + 1) % 3
    found = ClassifierFree(model, 2.0, null=other)(X, T, COND).x0
    expected = 2 * model(X, T, COND).x0 - model(X, T, other).x0
    torch.testing.assert_close(found, expected)
