"""Where training looks, and that it looks everywhere."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal as Reference

from langevin.diffusion.schedules import CosineVP, GeometricVE, LinearVE, LinearVP, Rectified, Schedule
from langevin.diffusion.times import (
    Antithetic,
    Discrete,
    Ladder,
    LogNormalSigma,
    LossAware,
    Stratified,
    Times,
    Uniform,
    UniformLogSNR,
)
from langevin.randomness import Keys, Noise

from .exact import SCHEDULES, float64


def drawn(times: Times, ordinals: Tensor, seed: int = 0) -> Tensor:
    return times(Noise(Keys(seed, ordinals)))


def discrepancy(t: Tensor) -> float:
    """The largest difference between the share of t below a point and the point, over all points of [0, 1]."""
    ordered, count = t.sort().values, len(t)
    above = torch.arange(1, count + 1) / count - ordered
    below = ordered - torch.arange(count) / count
    return float(torch.maximum(above, below).max())


def test_uniform_times_are_uniform() -> None:
    t = drawn(Uniform(), torch.arange(40_000))
    assert t.dtype == torch.float64
    assert 0 < float(t.min()) < 1e-3
    assert 1 - 1e-3 < float(t.max()) <= 1
    assert discrepancy(t) < 1.63 / 200  # Kolmogorov-Smirnov at 1 %
    assert discrepancy(t[:2000]) > 1.2 / 2000  # and left to chance


@pytest.mark.parametrize("kind", [Uniform, Stratified, Antithetic])
def test_times_begin_at_t_min(kind: type[Uniform]) -> None:
    t = drawn(kind(t_min=0.25), torch.arange(4000))
    assert 0.25 < float(t.min()) < 0.252
    assert 0.998 < float(t.max()) <= 1
    assert discrepancy((t - 0.25) / 0.75) < 0.03


@pytest.mark.parametrize("count", [10, 64, 500, 5000])
@pytest.mark.parametrize("start", [0, 123_457, 2**40])
@pytest.mark.parametrize("stride", [1, 2])
def test_any_run_of_stratified_times_is_even(count: int, start: int, stride: int) -> None:
    """Gaps and discrepancy of order 1 / n, where chance has log n / n and 1 / sqrt n; every second ordinal is one of
    two workers' share."""
    t = drawn(Stratified(), start + stride * torch.arange(count))
    circle = torch.cat([t.sort().values, t.min()[None] + 1])
    assert float(circle.diff().max()) < (3 if stride == 1 else 6) / count
    assert discrepancy(t) < (2 + math.log(count)) / count


def test_stratified_times_are_the_same_on_any_split() -> None:
    ordinals = torch.arange(1000, 1128)
    whole = drawn(Stratified(), ordinals)
    for world in (2, 3):
        parts = [drawn(Stratified(), ordinals[rank::world]) for rank in range(world)]
        assert all(torch.equal(part, whole[rank::world]) for rank, part in enumerate(parts))


def test_stratified_times_start_anywhere() -> None:
    """The seed shifts the whole sequence, by a uniform number: no seed's first sample is special."""
    first = torch.cat([drawn(Stratified(), torch.arange(1), seed) for seed in range(500)])
    assert discrepancy(first) < 1.63 / 500**0.5
    a, b = drawn(Stratified(), torch.arange(100), 0), drawn(Stratified(), torch.arange(100), 1)
    turns = (a - b) % 1
    torch.testing.assert_close(turns, turns[:1].expand(100), rtol=0, atol=1e-12)


def test_scopes_shift_stratified_times() -> None:
    noise = Noise(Keys.range(0, 0, 10))
    assert not torch.allclose(Stratified()(noise), Stratified()(noise.within("elsewhere")))


@pytest.mark.parametrize("base", [Uniform(), Stratified()])
@pytest.mark.parametrize("steps", [1, 7, 1000])
def test_discrete_times_are_the_chains_nodes(base: Times, steps: int) -> None:
    t = drawn(Discrete(steps, base), torch.arange(20_000))
    nodes = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    found, counts = t.unique(return_counts=True)
    assert torch.equal(found, nodes)
    share, expected = counts / 20_000, 1 / steps
    chance = 4.5 * math.sqrt(expected * (1 - expected) / 20_000)
    assert float((share - expected).abs().max()) <= (chance if type(base) is Uniform else 12 / 20_000)


def test_discrete_times_round_towards_noise() -> None:
    """t in ((i - 1) / T, i / T] is node i, so each has the density's share of its own step."""
    base = drawn(Stratified(), torch.arange(3000))
    t = drawn(Discrete(40, Stratified()), torch.arange(3000))
    assert bool(((t - base >= -1e-12) & (t - base < 1 / 40)).all())


@pytest.mark.parametrize("base", [Uniform(0.3), Stratified(0.3)])
def test_discrete_times_share_out_their_bases_density(base: Uniform) -> None:
    """(0.3, 1] over ten nodes: none below 0.4; over four: node 0.5 has the 0.2 of (0.25, 0.5] that is left."""
    assert Discrete(10, base).density(float64(0.3, 0.4, 1.0)).tolist() == pytest.approx([0, 1 / 0.7, 1 / 0.7])
    assert Discrete(4, base).density(float64(0.25, 0.5, 0.75)).tolist() == pytest.approx([0, 0.8 / 0.7, 1 / 0.7])
    for steps in (10, 4):
        times = Discrete(steps, base)
        nodes = torch.arange(1, steps + 1, dtype=torch.float64) / steps
        found = drawn(times, torch.arange(40_000))
        shares = (found[:, None] == nodes).double().mean(0)
        torch.testing.assert_close(shares, times.density(nodes) / steps, rtol=0, atol=0.01)
        assert float(times.density(nodes).mean()) == pytest.approx(1)


@pytest.mark.parametrize("base", [Uniform(), Stratified()])
@pytest.mark.parametrize("levels", [2, 10, 232])
def test_a_ladders_levels_come_equally_often(levels: int, base: Uniform) -> None:
    """Song & Ermon 2019, section 4.2: both ends are levels, and on a geometric schedule their ratios are equal."""
    t = drawn(Ladder(levels, base), torch.arange(20_000))
    found, counts = t.unique(return_counts=True)
    torch.testing.assert_close(found, torch.linspace(0, 1, levels, dtype=torch.float64), rtol=0, atol=1e-15)
    assert (float(found[0]), float(found[-1])) == (0.0, 1.0)
    chance = 4.5 * math.sqrt((1 - 1 / levels) / levels / 20_000)
    assert float((counts / 20_000 - 1 / levels).abs().max()) <= (chance if type(base) is Uniform else 12 / 20_000)
    torch.testing.assert_close(Ladder(levels).density(found), torch.ones(levels, dtype=torch.float64), rtol=0, atol=0)
    assert Ladder(levels) == Ladder(levels, Stratified())
    late = drawn(base, torch.arange(200)).argsort()  # late times are loud levels
    assert bool((drawn(Ladder(levels, base), torch.arange(200))[late].diff() >= 0).all())


def test_antithetic_times_are_vdms_within_a_batch() -> None:
    """t = (u + i / n) mod 1. Kingma et al. 2021, appendix I.1: n samples in a row are evenly spaced on the circle."""
    for count in (2, 7, 64):
        t = drawn(Antithetic(count=count), torch.arange(3 * count)).reshape(3, count)
        spaced = t.sort(dim=1).values.diff(dim=1)
        torch.testing.assert_close(spaced, torch.full((3, count - 1), 1 / count, dtype=torch.float64))
        starts = t.min(dim=1).values * count  # each batch has a u of its own
        assert len(starts.unique()) == 3


def test_antithetic_pairs_are_half_a_turn_apart_if_nothing_is_said() -> None:
    t = drawn(Antithetic(), torch.arange(200)).reshape(100, 2)
    torch.testing.assert_close((t[:, 0] - t[:, 1]).abs(), torch.full((100,), 0.5, dtype=torch.float64))


def test_a_batch_of_antithetic_times_starts_anywhere() -> None:
    """u is uniform, and batches know nothing of each other."""
    t = drawn(Antithetic(count=8), torch.arange(16_000))
    first = t[::8]
    assert discrepancy(first) < 1.63 / 2000**0.5
    assert discrepancy(first) > 0.2 / 2000**0.5
    assert discrepancy(t) < 0.01
    pairs = torch.corrcoef(torch.stack([first[:-1] % 0.125, first[1:] % 0.125]))
    assert abs(float(pairs[0, 1])) < 4 / 2000**0.5


@pytest.mark.parametrize("kind", [Uniform(), Stratified(), Antithetic(count=16), Antithetic(0.1, 5)])
def test_times_are_the_same_on_any_split(kind: Times) -> None:
    """A sample's time is its own, whatever batch or worker it meets, and another seed's is another."""
    ordinals = torch.arange(1000, 1128)
    whole = drawn(kind, ordinals)
    for world in (2, 3):
        parts = [drawn(kind, ordinals[rank::world]) for rank in range(world)]
        assert all(torch.equal(part, whole[rank::world]) for rank, part in enumerate(parts))
    assert torch.equal(drawn(kind, ordinals.flip(0)), whole.flip(0))
    assert not torch.allclose(drawn(kind, ordinals, seed=1), whole)


def test_log_normal_sigmas_are_edms() -> None:
    """ln sigma ~ N(-1.2, 1.2^2). Karras et al. 2022, table 1."""
    t = drawn(LogNormalSigma(LinearVE()), torch.arange(20_000))
    ln_sigma = LinearVE()(t).sigma.log()
    assert float(ln_sigma.mean()) == pytest.approx(-1.2, abs=0.003)
    assert float(ln_sigma.std()) == pytest.approx(1.2, abs=0.003)
    assert discrepancy(torch.special.ndtr((ln_sigma + 1.2) / 1.2)) < 5e-3  # stratified: evener than chance
    assert float(ln_sigma.min()) >= math.log(0.002) - 1e-9
    assert bool(((t >= 0) & (t <= 1)).all())


@pytest.mark.parametrize("base", [Uniform(), Stratified(), Antithetic(count=100), Uniform(0.4)])
@pytest.mark.parametrize("schedule", [LinearVP(), Rectified()], ids=["linear VP", "rectified"])
def test_log_normal_sigmas_on_any_schedule(schedule: Schedule, base: Uniform) -> None:
    """sigma / alpha is what is log-normal, by any uniform numbers on (t_min, 1]."""
    times = LogNormalSigma(schedule, mean=0.4, deviation=0.7, base=base)
    level = schedule(drawn(times, torch.arange(20_000)))
    z = (torch.log(level.sigma / level.alpha) - 0.4) / 0.7
    assert discrepancy(torch.special.ndtr(z)) < 1.63 / 20_000**0.5
    assert math.isclose(float(torch.sign(z - z.mean()).mean()), 0, abs_tol=0.03)
    uniform = (base(Noise(Keys.range(0, 0, 20_000))) - base.t_min) / (1 - base.t_min)
    torch.testing.assert_close(z, torch.special.ndtri(1 - uniform), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("base", [Uniform(0.4), Stratified()])
def test_log_normal_sigmas_between_ends_are_quantiles_of_what_is_left(base: Uniform) -> None:
    """(Phi(z) - Phi(z_0)) / (Phi(z_1) - Phi(z_0)) is the base's share, to float64's rounding, z_0 and z_1 the schedule's ends;
    and the density is the slope of it."""
    times = LogNormalSigma(GeometricVE(0.3, 5.0), -1.0, 2.0, base)

    def share(ln_sigma: Tensor) -> Tensor:
        phi = Reference(-1.0, 2.0).cdf
        ends = phi(float64(0.3, 5.0).log())
        return (phi(ln_sigma) - ends[0]) / (ends[1] - ends[0])

    t = drawn(times, torch.arange(500))
    uniform = (drawn(base, torch.arange(500)) - base.t_min) / (1 - base.t_min)
    torch.testing.assert_close(share(times.schedule(t).sigma.log()), 1 - uniform, rtol=0, atol=1e-12)
    ln_sigma = (math.log(0.3) + t * math.log(5.0 / 0.3)).requires_grad_()
    (slope,) = torch.autograd.grad(share(ln_sigma).sum(), ln_sigma)
    torch.testing.assert_close(times.density(t), slope * math.log(5.0 / 0.3), rtol=1e-12, atol=0)


def test_the_logarithm_of_no_noise_is_cut_off() -> None:
    """u = 0 and u = 1 have no level; they are given the last that float64 tells apart from them: Phi(z) = 2^-53, by 30 digits."""

    class Fixed(Uniform):
        def __call__(self, noise: Noise) -> Tensor:
            return float64(1.0, 2.0**-60)

    schedule = GeometricVE(1e-9, 1e9)
    z = (schedule(LogNormalSigma(schedule, base=Fixed())(Noise(Keys.range(0, 0, 2)))).sigma.log() + 1.2) / 1.2
    torch.testing.assert_close(z, float64(-8.2095361516, 8.2095361516), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("schedule", "t_min"),
    [(CosineVP(), 0.0), (LinearVP(), 1e-3), (SCHEDULES["linear chain"], 0.01), (LinearVE(), 0.0)],
    ids=["cosine VP", "linear VP", "linear chain", "linear VE"],
)
@pytest.mark.parametrize("kind", [Uniform, Stratified])
def test_the_log_snr_is_uniform_between_its_ends(schedule: Schedule, t_min: float, kind: type[Uniform]) -> None:
    """Kingma et al. 2021, section 5.1: where the continuous bound's integrand is flat."""
    t = drawn(UniformLogSNR(schedule, kind(t_min)), torch.arange(20_000))
    low, high = schedule(float64(1.0, t_min)).log_snr
    share = (schedule(t).log_snr - low) / (high - low)
    assert discrepancy(share) < (1.63 / 20_000**0.5 if kind is Uniform else 1e-3)
    order = torch.argsort(drawn(kind(t_min), torch.arange(20_000)))
    assert bool((t[order].diff() >= 0).all())  # late times stay late: the noise is in the end
    assert t.dtype == torch.float64


CONTINUOUS: dict[str, tuple[Times, float]] = {  # and where they begin
    "uniform": (Uniform(), 0.0),
    "uniform from 0.2": (Uniform(0.2), 0.2),
    "stratified from 0.1": (Stratified(0.1), 0.1),
    "antithetic": (Antithetic(count=8), 0.0),
    "antithetic from 0.1": (Antithetic(0.1, 8), 0.1),
    "log-normal on VE": (LogNormalSigma(LinearVE(), 1.5, 0.8), 0.0),
    "log-normal on VP": (LogNormalSigma(LinearVP(), -0.5, 0.9), 0.0),
    "log-normal on flow": (LogNormalSigma(Rectified(), 0.0, 1.0), 0.0),
    "log-normal cut off at both ends": (LogNormalSigma(CosineVP(), 1.0, 3.0), 0.0),
    "log-normal cut off, from part of the base": (LogNormalSigma(GeometricVE(0.3, 5.0), -1.0, 2.0, Uniform(0.3)), 0.0),
    "log-SNR on cosine VP": (UniformLogSNR(CosineVP()), 0.0),
    "log-SNR on VP": (UniformLogSNR(LinearVP(), Stratified(0.02)), 0.02),
    "log-SNR on a chain": (UniformLogSNR(SCHEDULES["cosine chain"], Uniform(0.05)), 0.05),
}


@pytest.mark.parametrize("name", CONTINUOUS)
def test_the_density_is_that_of_the_times(name: str) -> None:
    """It integrates to 1, and between any two points to the share of the times there."""
    times, start = CONTINUOUS[name]
    t = drawn(times, torch.arange(40_000))
    edges = start + (1 - start) * torch.linspace(0, 1, 20_001, dtype=torch.float64)
    middles = (edges[1:] + edges[:-1]) / 2
    mass = (times.density(middles) * edges.diff()).cumsum(0)
    assert float(mass[-1]) == pytest.approx(1, abs=2e-3)
    below = torch.searchsorted(t.sort().values, edges[1:]) / 40_000
    assert float((below - mass).abs().max()) < 1.63 / 40_000**0.5 + 1e-3


@pytest.mark.parametrize("name", CONTINUOUS)
def test_importance_weights_make_any_times_uniform(name: str) -> None:
    """E[f(t) / density(t)] is the integral of f: here over (start, 1] of t^2, cut off where few look."""
    times = CONTINUOUS[name][0]
    t = drawn(times, torch.arange(40_000))
    inside = (t > 0.3) & (t < 0.9)
    found = torch.where(inside, t**2 / times.density(t).clamp(min=1e-12), 0.0)
    expected = (0.9**3 - 0.3**3) / 3
    assert abs(float(found.mean()) - expected) < max(4 * float(found.std()) / 40_000**0.5, 1e-3)


@pytest.mark.parametrize("name", [*CONTINUOUS, "discrete"])
def test_times_are_values(name: str) -> None:
    times = Discrete(7, Stratified()) if name == "discrete" else CONTINUOUS[name][0]
    assert times in {times}
    with pytest.raises(FrozenInstanceError):
        times.t_min = times.steps = times.base = 0.5  # type: ignore[attr-defined]


STEPS = 12
NODES = torch.arange(1, STEPS + 1, dtype=torch.float64) / STEPS


def taught(rounds: int, memory: int = 10, floor: float = 0.001) -> tuple[LossAware, Tensor]:
    """Times that saw ``rounds`` losses at each node, and these losses (rounds, STEPS)."""
    times = LossAware(STEPS, memory, floor)
    losses = torch.exp(Noise(Keys.range(4, 0, rounds)).normal("losses", torch.zeros(rounds, STEPS).double()))
    for row in losses:
        times.learn(NODES, row)
    return times, losses


def test_loss_aware_times_are_uniform_until_each_node_has_ten_losses() -> None:
    """Nichol & Dhariwal 2021, section 3.3."""
    times, _ = taught(9)
    uniform = torch.full((STEPS,), 1 / STEPS, dtype=torch.float64)
    assert torch.equal(times.probabilities(), uniform)
    torch.testing.assert_close(times.density(NODES), torch.ones_like(NODES))
    times.learn(NODES[1:], NODES[1:])
    assert torch.equal(times.probabilities(), uniform)  # the first node still has nine
    times.learn(NODES[:1], NODES[:1])
    assert not torch.allclose(times.probabilities(), uniform)


def test_loss_aware_times_follow_the_root_mean_square_of_the_last_ten() -> None:
    times, losses = taught(23)
    size = losses[13:].square().mean(0).sqrt()
    expected = 0.999 * size / size.sum() + 0.001 / STEPS
    torch.testing.assert_close(times.probabilities(), expected, rtol=1e-12, atol=0)
    assert float(times.probabilities().sum()) == pytest.approx(1, rel=1e-12)
    torch.testing.assert_close(times.density(NODES), expected * STEPS, rtol=1e-12, atol=0)
    times, losses = taught(7, memory=3, floor=0.25)
    size = losses[4:].square().mean(0).sqrt()
    expected = 0.75 * size / size.sum() + 0.25 / STEPS
    torch.testing.assert_close(times.probabilities(), expected, rtol=1e-12, atol=0)


def test_a_node_without_losses_is_not_forgotten() -> None:
    """The 0.001 of the uniform distribution."""
    times = LossAware(4)
    for _ in range(10):
        times.learn(float64(0.25, 0.5, 0.75, 1.0), float64(0.0, 0.0, 0.0, 5.0))
    assert times.probabilities().tolist() == pytest.approx([0.00025, 0.00025, 0.00025, 0.99925], rel=1e-12)


def test_one_batch_may_bring_a_node_several_losses() -> None:
    """In the batch's order: the newest stay."""
    times = LossAware(2, memory=2)
    times.learn(float64(0.5, 1.0, 0.5, 0.5, 1.0), float64(100.0, 3.0, 1.0, 7.0, 4.0))
    size = float64(((1 + 49) / 2) ** 0.5, ((9 + 16) / 2) ** 0.5)
    torch.testing.assert_close(times.probabilities(), 0.999 * size / size.sum() + 0.0005, rtol=1e-12, atol=0)
    with pytest.raises(ValueError, match="shorter"):
        times.learn(float64(0.5, 1.0), float64(1.0, 2.0)[:1])


def test_loss_aware_times_come_as_often_as_they_are_likely() -> None:
    times, _ = taught(12)
    t = drawn(times, torch.arange(60_000))
    shares = (t[:, None] == NODES).double().mean(0)
    expected = times.probabilities()
    assert float(shares.sum()) == pytest.approx(1)
    error = (expected * (1 - expected) / 60_000).sqrt()
    assert float(((shares - expected) / error).abs().max()) < 4
    assert torch.equal(drawn(times, torch.arange(100, 200)), t[100:200])


@pytest.mark.parametrize("number", [0.0, 0.5, 1 - 2**-53])
def test_loss_aware_times_leave_out_what_is_never_wrong(number: float) -> None:
    """A node of probability 0 has no uniform number, not the first one either: its losses would be divided by 0."""

    class Always(Noise):
        def uniform(self, stream: str, like: Tensor) -> Tensor:
            return torch.full_like(like, number)

    times = LossAware(4, memory=1, floor=0.0)
    times.learn(float64(0.25, 0.5, 0.75, 1.0), float64(0.0, 2.0, 2.0, 0.0))
    t = times(Always(Keys.range(0, 0, 1)))
    assert t.tolist() == [0.5 if number < 0.5 else 0.75]
    assert float(times.density(t)) == 2


def test_loss_aware_losses_are_weighted_without_bias() -> None:
    """E[L_t / (T p_t)] is the mean over the nodes. Nichol & Dhariwal 2021, eq. 18."""
    times, losses = taught(12)
    t = drawn(times, torch.arange(60_000))
    of_node = losses[3]
    found = of_node[(t * STEPS).round().long() - 1] / times.density(t)
    assert abs(float(found.mean() - of_node.mean())) < 4 * float(found.std()) / 60_000**0.5


def test_nodes_are_told_apart_whatever_their_rounding() -> None:
    """i / T times T need not be i."""
    times = LossAware(1000, memory=1)
    nodes = torch.arange(1, 1001, dtype=torch.float64)
    times.learn(nodes / 1000, nodes)
    torch.testing.assert_close(times.density(nodes / 1000), 0.999 * nodes / 500.5 + 0.001, rtol=1e-12, atol=0)
    times.learn((nodes / 1000).float(), nodes)
    torch.testing.assert_close(times.density((nodes / 1000).float()), 0.999 * nodes / 500.5 + 0.001, rtol=1e-12, atol=0)


def test_the_history_is_saved_and_goes_on_as_it_would_have() -> None:
    going_on, losses = taught(14)
    resumed = LossAware(STEPS)
    resumed.load_state_dict({name: value.clone() for name, value in going_on.state_dict().items()})
    assert torch.equal(resumed.probabilities(), going_on.probabilities())
    for row in losses.flip(0)[:7]:
        for times in (going_on, resumed):
            times.learn(NODES, row)
    ordinals = torch.arange(500)
    assert torch.equal(drawn(resumed, ordinals), drawn(going_on, ordinals))
    assert torch.equal(resumed.density(NODES), going_on.density(NODES))
    size = torch.cat([losses[11:], losses.flip(0)[:7]]).square().mean(0).sqrt()
    torch.testing.assert_close(resumed.probabilities(), 0.999 * size / size.sum() + 0.001 / STEPS, rtol=1e-12, atol=0)
