"""The learning rate and the average of the weights, against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from langevin.training.ema import EMA
from langevin.training.optimiser import Constant, Cosine, Decay, InverseSqrt, LearningRate, adamw


def test_the_rate_rises_falls_and_ends_at_zero() -> None:
    rate = LearningRate(0.2, 100, Cosine(10_000))
    assert rate(0) == pytest.approx(0.2 / 100)
    assert rate(49) == pytest.approx(0.1, rel=1e-3)
    assert rate(99) == pytest.approx(0.2, rel=1e-3)
    assert rate(5_000) == pytest.approx(0.1)
    assert rate(2_500) == pytest.approx(0.1 * (1 + math.sqrt(0.5)))
    assert rate(10_000) == pytest.approx(0, abs=1e-15)
    assert rate(20_000) == pytest.approx(0, abs=1e-15)


def test_the_rate_rises_then_falls_and_never_leaves_its_range() -> None:
    rate = LearningRate(0.2, 640, Cosine(10_000))
    rates = [rate(seen) for seen in range(0, 10_001, 64)]
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert min(rates) >= 0
    assert max(rates) <= 0.2


def test_without_warm_up_the_first_step_has_the_peak() -> None:
    for decay in (Cosine(1000), InverseSqrt(1000), Constant()):
        assert LearningRate(peak=0.2, warmup=0, decay=decay)(0) == 0.2


def test_the_inverse_square_root_is_flat_and_then_halves_with_four_times_the_images() -> None:
    rate = LearningRate(0.2, 100, InverseSqrt(1_000))
    assert rate(49) == pytest.approx(0.1)
    assert [rate(seen) for seen in (99, 500, 1_000)] == [0.2] * 3
    assert rate(1_001) < 0.2
    for seen in (1_000, 3_000, 1_000_000):
        assert rate(4 * seen) == pytest.approx(rate(seen) / 2, rel=1e-14)
    assert rate(9_000) == pytest.approx(0.2 / 3, rel=1e-14)


@pytest.mark.parametrize("decay", [Cosine(10_000), InverseSqrt(10_000), Constant()])
def test_every_decay_has_the_same_warm_up(decay: Decay) -> None:
    rate, without = LearningRate(0.2, 400, decay), LearningRate(0.2, 0, decay)
    assert [rate(seen) for seen in (0, 99, 399)] == pytest.approx(
        [without(seen) * share for seen, share in ((0, 1 / 400), (99, 0.25), (399, 1.0))], rel=1e-14
    )
    assert [rate(seen) for seen in (400, 20_000)] == [without(seen) for seen in (400, 20_000)]


def test_a_constant_rate_stays() -> None:
    assert {LearningRate(0.2, 100, Constant())(seen) for seen in (99, 5_000, 10**9)} == {0.2}


def test_the_average_is_its_recursion() -> None:
    """Steps of min(decay, (1 + n) / (10 + n)), written out on numbers."""
    model = nn.Linear(1, 1, bias=False).double()
    with torch.no_grad():
        model.weight.fill_(5.0)
    ema, expected = EMA(model, decay=0.5), 5.0
    for n, value in enumerate([1.0, -2.0, 7.0, 3.0, 3.0, 0.5, 2.0, -1.0, 4.0, 6.0], start=1):
        with torch.no_grad():
            model.weight.fill_(value)
        ema.update(model)
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * value
        assert ema.model.get_parameter("weight").item() == pytest.approx(expected, rel=1e-14)
    assert ema.updates == 10


def test_the_average_learns_nothing_by_itself_and_shares_nothing() -> None:
    model = nn.Linear(2, 2)
    ema = EMA(model, 0.9)
    assert not any(p.requires_grad for p in ema.model.parameters())
    assert all(p.requires_grad for p in model.parameters())
    assert not ema.model.training
    assert model.training
    before = ema.model.get_parameter("weight").clone()
    with torch.no_grad():
        model.weight.add_(1)
    assert torch.equal(ema.model.get_parameter("weight"), before)


def test_adamw_is_its_published_step() -> None:
    """Loshchilov & Hutter 2019, algorithm 2: the decay of the weights is beside the gradient, not in it."""
    model = nn.Linear(1, 1, bias=False).double()
    with torch.no_grad():
        model.weight.fill_(2.0)
    optimiser = adamw(model, weight_decay=0.1, betas=(0.9, 0.99))
    optimiser.param_groups[0]["lr"] = 0.01
    w, m, v = 2.0, 0.0, 0.0
    for step in range(1, 6):
        optimiser.zero_grad()
        gradient = 3.0 * w  # of 1.5 w^2
        (1.5 * model.weight.square().sum()).backward()
        optimiser.step()
        m, v = 0.9 * m + 0.1 * gradient, 0.99 * v + 0.01 * gradient**2
        update = (m / (1 - 0.9**step)) / (math.sqrt(v / (1 - 0.99**step)) + 1e-8)
        w = w * (1 - 0.01 * 0.1) - 0.01 * update
        assert model.weight.item() == pytest.approx(w, rel=1e-12)


def test_adamw_does_nothing_before_the_loop_has_set_its_rate() -> None:
    model = nn.Linear(2, 2)
    before = model.weight.clone()
    optimiser = adamw(model, weight_decay=0.1, betas=(0.9, 0.99))
    model(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    assert torch.equal(model.weight, before)
