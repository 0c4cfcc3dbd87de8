"""The reverse step's variance: two fixed ends and what a network learns in between."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError

import pytest
import torch
from torch import Tensor

from langevin.diffusion import grids
from langevin.diffusion.schedules import Schedule, Tabulated, cosine_betas, linear_betas
from langevin.diffusion.variance import Learned, Lower, ReverseVariance, Upper
from langevin.evaluation.compatibility import declare_missing_operators

from .exact import SCHEDULES, float64, noise

declare_missing_operators()  # diffusers imports torchvision
from diffusers import DDPMScheduler  # noqa: E402

ALL = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
T = torch.linspace(0.02, 0.98, 60, dtype=torch.float64)


def heads(count: int) -> Tensor:
    """(count, 2, 3), beyond [-1, 1] on both sides."""
    return 2 * noise(count).normal("heads", torch.zeros(count, 2, 3, dtype=torch.float64))


def openais(betas: Tensor, head: Tensor) -> Tensor:
    """p_mean_variance of the paper's code in its own symbols, at all T steps: head (T, ...)."""
    bar = torch.cumprod(1 - betas, 0)
    before = torch.cat([torch.ones(1, dtype=torch.float64), bar[:-1]])
    posterior = betas * (1 - before) / (1 - bar)
    clipped = torch.log(torch.cat([posterior[1:2], posterior[1:]]))
    shape = (-1,) + (1,) * (head.ndim - 1)
    low, high = clipped.reshape(shape), torch.log(betas).reshape(shape)
    frac = (head + 1) / 2
    return torch.exp(frac * high + (1 - frac) * low)


@pytest.mark.parametrize("betas", [linear_betas(1000), cosine_betas(1000), linear_betas(40)])
def test_learned_is_that_of_improved_ddpm(betas: Tensor) -> None:
    """Nichol & Dhariwal 2021, eq. 15, with the first step's lower end replaced by the second's."""
    schedule, steps = Tabulated(betas), len(betas)
    nodes = torch.arange(steps + 1, dtype=torch.float64) / steps
    variance = Learned.of(schedule, grids.uniform(steps))
    found = variance(schedule(nodes[:-1]), schedule(nodes[1:]), heads(steps))
    torch.testing.assert_close(found, openais(betas, heads(steps)), rtol=1e-8, atol=0)


def test_its_smallest_is_the_second_steps_posterior_variance() -> None:
    for betas in (linear_betas(1000), cosine_betas(50)):
        bar = torch.cumprod(1 - betas, 0)
        found = Learned.of(Tabulated(betas), grids.uniform(len(betas))).smallest
        assert found == pytest.approx(float(betas[1] * (1 - bar[0]) / (1 - bar[1])), rel=1e-10)
    chain = Tabulated(linear_betas(1000))  # a coarser grid is a chain of its own
    bar = torch.cumprod(1 - linear_betas(1000), 0)
    found = Learned.of(chain, grids.uniform(10)).smallest
    beta = 1 - bar[199] / bar[99]
    assert found == pytest.approx(float(beta * (1 - bar[99]) / (1 - bar[199])), rel=1e-10)


@pytest.mark.parametrize("step", [1, 2, 400, 999])
@pytest.mark.parametrize("kind", ["learned_range", "fixed_small", "fixed_large"])
def test_variances_are_those_of_diffusers(kind: str, step: int) -> None:
    """Step k counted from 0; at k = 0 it has no noise, and clamps at 1e-20 instead."""
    betas = linear_betas(1000)
    scheduler = DDPMScheduler(trained_betas=betas.numpy(), variance_type=kind)
    theirs = scheduler._get_variance(step, predicted_variance=heads(1))
    schedule = Tabulated(betas)
    s, t = schedule(float64(step / 1000).reshape(1)), schedule(float64((step + 1) / 1000).reshape(1))
    ends: dict[str, ReverseVariance] = {"fixed_small": Lower(), "fixed_large": Upper()}
    if kind == "learned_range":  # said as a logarithm
        found = Learned.of(schedule, grids.uniform(1000))(s, t, heads(1)).log()
        torch.testing.assert_close(found, theirs.double(), rtol=1e-3, atol=1e-3)  # theirs are float32 differences
    else:
        assert float(ends[kind](s, t)) == pytest.approx(float(theirs), rel=1e-3)


@ALL
def test_learned_runs_between_the_ends_log_linearly(schedule: Schedule) -> None:
    """Head -1 is the lower end, 1 the upper one, 0 their geometric mean."""
    s, t = schedule(T[:-1]), schedule(T[1:])
    variance, ones = Learned(1e-9), torch.ones(59, 1, dtype=torch.float64)
    lower, upper = Lower()(s, t)[:, None], Upper()(s, t)[:, None]
    for head, expected in ((-ones, lower), (ones, upper), (0 * ones, (lower * upper).sqrt())):
        torch.testing.assert_close(variance(s, t, head), expected, rtol=1e-9, atol=0)
    logs = [variance(s, t, share * ones).log() for share in (-0.5, 0.0, 0.5)]
    torch.testing.assert_close(logs[0] + logs[2], 2 * logs[1], rtol=1e-9, atol=1e-9)


def test_the_step_to_the_data_has_the_smallest_for_its_lower_end() -> None:
    """One sample of a batch at the data, one not: each by its own."""
    schedule = SCHEDULES["linear VP"]
    s, t = schedule(float64(0.0, 0.1)), schedule(float64(0.1, 0.2))
    head = torch.zeros(2, 3, dtype=torch.float64)
    found = Learned(1e-6)(s, t, head)
    upper = schedule(float64(0.1)).sigma ** 2
    expected = torch.stack([(1e-6 * upper).sqrt(), (Lower()(s, t)[1] * Upper()(s, t)[1]).sqrt()])
    torch.testing.assert_close(found, expected[:, None].expand(2, 3), rtol=1e-9, atol=0)
    assert float(Learned(1e-6)(s, t, head - 1)[0, 0]) == pytest.approx(1e-6, rel=1e-9)


def test_one_level_serves_all_heads_and_their_type() -> None:
    schedule = SCHEDULES["cosine VP"]
    s, t = schedule(float64(0.4)), schedule(float64(0.5))
    head = heads(4).float()
    found = Learned(1e-6)(s, t, head)
    assert (found.shape, found.dtype) == (head.shape, torch.float32)
    expected = 0.5 * ((head + 1) * float(Upper()(s, t).log()) + (1 - head) * float(Lower()(s, t).log()))
    torch.testing.assert_close(found.log(), expected, rtol=1e-5, atol=1e-5)


def test_learned_reaches_its_head_alone() -> None:
    """d log var / d head is half the logarithm of the ends' ratio."""
    schedule = SCHEDULES["cosine VP"]
    s, t = schedule(T[:-1]), schedule(T[1:])
    head = heads(59).requires_grad_()
    Learned(1e-6)(s, t, head).log().sum().backward()
    ratio = torch.log(Upper()(s, t) / Lower()(s, t)) / 2
    torch.testing.assert_close(head.grad, ratio[:, None, None].expand(59, 2, 3), rtol=1e-9, atol=0)


def test_a_learned_variance_needs_a_head() -> None:
    level = SCHEDULES["cosine VP"](float64(0.5, 0.6))
    with pytest.raises(ValueError, match="needs a network with a second head"):
        Learned(1e-6)(level, level)


@ALL
def test_the_ends_are_what_is_left_of_either_noise(schedule: Schedule) -> None:
    """lower / upper = sigma_s^2 / sigma_t^2, and both lose what the signal keeps. A head changes neither."""
    s, t = schedule(T[:-1]), schedule(T[1:])
    lower, upper = Lower()(s, t), Upper()(s, t)
    torch.testing.assert_close(lower / upper, s.sigma**2 / t.sigma**2, rtol=1e-10, atol=0)
    kept = (t.alpha / s.alpha) ** 2 * s.sigma**2  # of the noise at s in that at t
    torch.testing.assert_close(upper, t.sigma**2 - kept, rtol=1e-7, atol=0)
    assert torch.equal(Lower()(s, t, heads(59)), lower)
    assert torch.equal(Upper()(s, t, heads(59)), upper)


@pytest.mark.parametrize("variance", [Lower(), Upper(), Learned(0.25)], ids=repr)
def test_variances_are_values(variance: ReverseVariance) -> None:
    assert variance in {variance}
    with pytest.raises(FrozenInstanceError):
        variance.smallest = math.pi  # type: ignore[union-attr, misc]
