"""With exact conditionals every order has the joint's likelihood: the bound is tight, and samples have its frequencies."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
from discrete.joint import D, Exact, ExactDigits, Joint, K, noise
from torch import Tensor

from langevin.diffusion.times import Stratified
from langevin.discrete.ardm import (
    Absorbing,
    Autoregressive,
    Guided,
    OrderAgnostic,
    State,
    drawn,
    parallel_bound,
    stratified_bound,
)
from langevin.discrete.orders import random_order
from langevin.discrete.upscaling import Upscaled
from langevin.errors import ConfigError
from langevin.randomness import Keys, Noise

JOINT = Joint.random()
MODELS: dict[str, tuple[Joint, Autoregressive]] = {
    "order agnostic": (JOINT, Absorbing(Exact(JOINT), K)),
    "upscaling": (four := Joint.random(4, 3), Upscaled(ExactDigits(four, 2, 2), 4, 2)),
    "upscaling beyond the levels": (JOINT, Upscaled(ExactDigits(JOINT, 2, 2), K, 2)),
    "upscaling of eight": (eight := Joint.random(8, 2), Upscaled(ExactDigits(eight, 2, 3), 8, 2)),
    "upscaling by threes": (five := Joint.random(5, 2), Upscaled(ExactDigits(five, 3, 2), 5, 3)),
}
every = pytest.mark.parametrize("name", MODELS)


def last(states: Sequence[State]) -> Tensor:
    assert torch.equal(states[-1].low, states[-1].high)
    return states[-1].low


def repeated(joint: Joint, times: int) -> Tensor:
    return joint.all().repeat_interleave(times, dim=0)


@every
def test_the_bound_is_tight_with_exact_conditionals(name: str) -> None:
    """E over orders of the sum of L_t = -log p(x), for each x: Hoogeboom et al. 2021, eq. 3-6."""
    joint, model = MODELS[name]
    x = repeated(joint, 800)
    found = stratified_bound(model, x, None, noise(len(x)), model.steps(x.shape[1:])).reshape(-1, 800)
    error = found.std(1) / 800**0.5
    assert bool(((found.mean(1) - joint.nats(joint.all())).abs() < 4.5 * error + 1e-9).all())


@every
def test_one_step_a_sample_has_the_bound_as_its_mean(name: str) -> None:
    """The training's loss: N L_t, t by the ordinal."""
    joint, model = MODELS[name]
    x = repeated(joint, 1500)
    losses = OrderAgnostic(Stratified())(model, x, None, noise(len(x)))
    found = losses.total.reshape(-1, 1500)
    assert bool(((found.mean(1) - joint.nats(joint.all())).abs() < 4.5 * found.std(1) / 1500**0.5).all())
    torch.testing.assert_close(losses.total, losses.terms["step_loss"] * model.steps(x.shape[1:]))


def test_every_single_order_gives_the_exact_likelihood() -> None:
    """-log p(x) = the sum of -log p(x_k | x_{order < t}) over t, whichever order it is."""
    x = JOINT.all()
    network = Exact(JOINT)
    for permutation in itertools.permutations(range(D)):
        order = torch.tensor(permutation).expand(len(x), D)
        total = torch.zeros(len(x), dtype=torch.float64)
        for t in range(D):
            hidden = order >= t
            log_p = network(x.masked_fill(hidden, 0), hidden, (~hidden).float().mean(1), None).log_softmax(-1)
            total -= (log_p.gather(-1, x[..., None])[..., 0] * (order == t)).sum(1)
        torch.testing.assert_close(total, JOINT.nats(x))


def test_a_steps_loss_is_the_mean_over_what_is_absorbed() -> None:
    x = JOINT.all()
    model, keys = MODELS["order agnostic"][1], noise(len(x))
    order = random_order(keys, x)
    for t in range(D):
        hidden = order >= t
        log_p = Exact(JOINT)(x.masked_fill(hidden, 0), hidden, torch.full((len(x),), t / D), None).log_softmax(-1)
        expected = -(log_p.gather(-1, x[..., None])[..., 0] * hidden).sum(1) / (D - t)
        torch.testing.assert_close(model.step_losses(x, torch.full((len(x),), t), None, keys), expected)


@pytest.mark.parametrize("calls", [1, 2, 5])
def test_fewer_calls_estimate_the_same_bound(calls: int) -> None:
    joint, model = MODELS["order agnostic"]
    x = repeated(joint, 800)
    found = stratified_bound(model, x, None, noise(len(x), seed=calls), calls).reshape(-1, 800)
    assert bool(((found.mean(1) - joint.nats(joint.all())).abs() < 4.5 * found.std(1) / 800**0.5).all())


def test_jumps_of_one_step_have_the_bound_and_larger_ones_are_never_better() -> None:
    """The cost of a policy is what its samples' likelihood is bounded by."""
    joint, model = MODELS["order agnostic"]
    x, n = repeated(joint, 3000), 3000
    p = torch.exp(-joint.nats(joint.all()))
    cost = {}
    for starts in ([0, 1, 2], [0, 1], [0]):
        found = parallel_bound(model, x, None, noise(len(x)), starts)
        cost[len(starts)] = float(found.reshape(-1, n).mean(1) @ p)
    entropy = float(p @ joint.nats(joint.all()))
    assert cost[3] == pytest.approx(entropy, abs=0.02)
    assert cost[3] < cost[2] < cost[1]
    marginals = [joint.p.sum([axis for axis in range(D) if axis != k]) for k in range(D)]
    assert cost[1] == pytest.approx(float(sum(-(m * m.log()).sum() for m in marginals)), rel=1e-9)


@every
def test_samples_have_the_joints_frequencies(name: str) -> None:
    """One token at a time, in orders of their own."""
    joint, model = MODELS[name]
    shape, count = (joint.p.ndim,), 10_000
    x = last(list(model.walk(shape, range(model.steps(shape)), None, noise(count))))
    index = (x * joint.p.shape[0] ** torch.arange(joint.p.ndim - 1, -1, -1)).sum(1)
    met, expected = torch.bincount(index, minlength=joint.p.numel()), joint.p.flatten() * count
    chi_square = float(((met - expected) ** 2 / expected).sum())
    freedom = joint.p.numel() - 1
    assert chi_square < freedom + 4 * math.sqrt(2 * freedom)


def test_one_jump_draws_the_marginals() -> None:
    """And nothing of how tokens depend on each other."""
    x = last(list(MODELS["order agnostic"][1].walk((D,), [0], None, noise(20_000))))
    for k in range(D):
        marginal = JOINT.p.sum([axis for axis in range(D) if axis != k])
        assert (torch.bincount(x[:, k]) / 20_000).tolist() == pytest.approx(marginal.tolist(), abs=0.015)
    pairs = torch.bincount(x[:, 0] * K + x[:, 1], minlength=K * K) / 20_000
    product = torch.outer(JOINT.p.sum((1, 2)), JOINT.p.sum((0, 2))).flatten()
    assert pairs.tolist() == pytest.approx(product.tolist(), abs=0.015)


@every
def test_a_walk_narrows_every_value_to_its_sample(name: str) -> None:
    joint, model = MODELS[name]
    shape, top = (joint.p.ndim,), joint.p.shape[0] - 1
    count = model.steps(shape)
    states = list(model.walk(shape, range(count), None, noise(50)))
    assert len(states) == count + 1
    assert bool((states[0].low == 0).all())
    assert bool((states[0].high == top).all())
    x = last(states)
    for before, after in itertools.pairwise(states):
        assert bool((before.low <= after.low).all())
        assert bool((after.low <= x).all())
        assert bool((x <= after.high).all())
        assert bool((after.high <= before.high).all())
        assert bool((((after.high - after.low) < (before.high - before.low)).sum(1) <= 1).all())


@every
def test_a_sample_is_its_keys_own(name: str) -> None:
    """In any batch, to the bit."""
    joint, model = MODELS[name]
    shape = (joint.p.ndim,)
    starts = range(model.steps(shape))
    whole = last(list(model.walk(shape, starts, None, noise(40))))
    places = torch.tensor([31, 4, 15])
    part = last(list(model.walk(shape, starts, None, Noise(Keys(0, places)))))
    assert torch.equal(part, whole[places])


def test_one_digit_is_no_upscaling() -> None:
    """A base of as many as there are levels: the order-agnostic model's losses."""
    x, keys = JOINT.all(), noise(len(JOINT.all()))
    plain, one = Absorbing(Exact(JOINT), K), Upscaled(Exact(JOINT), K, K)
    assert one.stages == 1
    for t in range(D):
        step = torch.full((len(x),), t)
        torch.testing.assert_close(one.step_losses(x, step, None, keys), plain.step_losses(x, step, None, keys))


@pytest.mark.parametrize(("levels", "base", "stages"), [(256, 2, 8), (256, 4, 4), (256, 16, 2), (17, 2, 5), (2, 2, 1)])
def test_as_many_stages_as_digits(levels: int, base: int, stages: int) -> None:
    assert Upscaled(Exact(JOINT), levels, base).stages == stages


def test_no_jump_leaves_its_stage() -> None:
    joint, model = MODELS["upscaling"]
    x = joint.all()
    for wrong in ([0], [0, 2, 4], [0, 1, 2]):
        with pytest.raises(ConfigError, match="multiples of 3"):
            list(model.walk((3,), wrong, None, noise(2)))
        with pytest.raises(ConfigError, match="multiples of 3"):
            parallel_bound(model, x, None, noise(len(x)), wrong)
    assert len(list(model.walk((3,), [0, 2, 3], None, noise(2)))) == 4


def test_a_number_is_drawn_as_its_share_says() -> None:
    """The inverse of the distribution function, and never a class of probability 0."""
    p = torch.tensor([0.0, 0.25, 0.0, 0.5, 0.25, 0.0], dtype=torch.float64)
    u = torch.tensor([0.0, 0.1, 0.2499, 0.2501, 0.5, 0.7499, 0.7501, 1 - 2.0**-53], dtype=torch.float64)
    assert drawn(p.log().expand(8, 6), u).tolist() == [1, 1, 1, 3, 3, 3, 4, 4]
    assert drawn(p.log().expand(8, 6) + 300, u).tolist() == [1, 1, 1, 3, 3, 3, 4, 4]


def test_guidance_is_a_power_of_the_ratio() -> None:
    """p_u (p_c / p_u)^scale."""

    def network(x: Tensor, hidden: Tensor, noise: Tensor, cond: Tensor | None) -> Tensor:
        return torch.tensor([0.2, 0.8]).log() if cond is None else torch.tensor([0.6, 0.4]).log()

    x = torch.zeros(1, 1, dtype=torch.int64)
    for scale in (0.0, 1.0, 2.5):
        found = Guided(network, scale)(x, x == 0, x[0].float(), x).softmax(-1)
        expected = torch.tensor([0.2 * 3**scale, 0.8 * 0.5**scale])
        torch.testing.assert_close(found, expected / expected.sum())
    torch.testing.assert_close(Guided(network, 3.0)(x, x == 0, x[0].float(), None).exp(), torch.tensor([0.2, 0.8]))


def test_a_bound_needs_a_call_and_digits_a_base() -> None:
    with pytest.raises(ValueError, match="not 0"):
        stratified_bound(MODELS["order agnostic"][1], JOINT.all(), None, noise(27), 0)
    with pytest.raises(ValueError, match="not 1"):
        Upscaled(Exact(JOINT), 4, 1)
