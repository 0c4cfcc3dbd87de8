"""What training minimises, against the sums and integrals that its papers write down."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal as Reference
from torch.distributions import kl_divergence

from langevin.diffusion import grids, parameterizations, weightings
from langevin.diffusion.bound_objectives import ContinuousBound, HybridBound, VariationalBound
from langevin.diffusion.denoiser import Denoiser, Prediction
from langevin.diffusion.likelihood import discrete_bound
from langevin.diffusion.objectives import Denoising, Uncertain, look
from langevin.diffusion.schedules import CosineVP, GeometricVE, Learned, LinearVP, Rectified, Schedule, Tabulated
from langevin.diffusion.times import Discrete, LogNormalSigma, LossAware, Stratified, Times, Uniform, UniformLogSNR
from langevin.diffusion.variance import Learned as LearnedVariance
from langevin.diffusion.variance import Lower, ReverseVariance, Upper
from langevin.randomness import Noise

from .exact import Bent, Given, Normal, float64, noise

STEPS, LEVELS, DIMS = 20, 9, 6
BETAS = torch.linspace(0.002, 0.25, STEPS, dtype=torch.float64)
CHAIN = Tabulated(BETAS)
NODES = torch.arange(1, STEPS + 1, dtype=torch.float64) / STEPS
IMAGES = (noise(STEPS, seed=2).uniform("images", torch.zeros(STEPS, 2, 3).double()) * LEVELS).floor() / 4 - 1
VARIANCE = LearnedVariance.of(CHAIN, grids.uniform(STEPS))


@dataclass(frozen=True)
class EachNode:
    """Sample i at node i + 1, as if the nodes had the density ``share``."""

    share: float = 1.0

    def __call__(self, noise: Noise) -> Tensor:
        return NODES

    def density(self, t: Tensor) -> Tensor:
        return torch.full_like(t, self.share)


class TwoHeads(nn.Module):
    """A network with one weight for each of its heads."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.head = nn.Parameter(float64(0.7)), nn.Parameter(float64(0.3))

    def forward(self, x: Tensor, told: Tensor, cond: Any = None) -> Tensor:
        shift = 0 if cond is None else cond.reshape(-1, 1, 1)
        return torch.cat([torch.sin(self.mean * x) + shift, torch.cos(x) * self.head], dim=1)


def model(parameterization: parameterizations.Parameterization = parameterizations.Noise()) -> Denoiser:  # noqa: B008
    return Denoiser(TwoHeads(), CHAIN, parameterization)


def terms_by_hand(mean: Tensor, head: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
    """(mean square error, the bound's term in nats) of each image at its own node, in the symbols of Ho et al. 2020 and
    Nichol & Dhariwal 2021: L_0 by erf, L_{t-1} by a reference's divergence."""
    bar = torch.cumprod(1 - BETAS, 0)
    before = torch.cat([torch.ones(1, dtype=torch.float64), bar[:-1]])
    beta, bar, before = (v[:, None, None] for v in (BETAS, bar, before))
    x = bar.sqrt() * IMAGES + (1 - bar).sqrt() * eps
    said, v = torch.sin(mean * x), torch.cos(x) * head
    x0 = (x - (1 - bar).sqrt() * said) / bar.sqrt()

    def posterior_mean(data: Tensor) -> Tensor:
        return (
            beta * before.sqrt() / (1 - bar) * data + (1 - before) * (1 - beta).sqrt() / (1 - bar) * x
        )  # eq. 7 of Ho et al. 2020

    var = beta * (1 - before) / (1 - bar)
    clipped = torch.cat([var[1:2], var[1:]])
    width = torch.exp((v + 1) / 2 * torch.log(beta) + (1 - v) / 2 * torch.log(clipped)).sqrt()
    later = slice(1, None)
    kl = kl_divergence(
        Reference(posterior_mean(IMAGES)[later], var[later].sqrt().expand(-1, 2, 3)),
        Reference(posterior_mean(x0)[later], width[later]),
    )
    half = 1 / (LEVELS - 1)
    decoder = Reference(posterior_mean(x0)[0], width[0])
    high = torch.where(IMAGES[0] == 1, torch.ones(2, 3, dtype=torch.float64), decoder.cdf(IMAGES[0] + half))
    low = torch.where(IMAGES[0] == -1, torch.zeros(2, 3, dtype=torch.float64), decoder.cdf(IMAGES[0] - half))
    nats = torch.cat([-torch.log(high - low)[None], kl]).sum(dim=(1, 2))
    return (eps - said).square().mean(dim=(1, 2)), nats


EPS = noise(STEPS).normal("forward", IMAGES)


def test_the_variational_bound_is_each_nodes_term_times_the_chain() -> None:
    """Bits per dimension of the whole chain: T x the term / (dims ln 2)."""
    found = VariationalBound(EachNode(), STEPS, VARIANCE, LEVELS)(model(), IMAGES, None, noise(STEPS))
    _, nats = terms_by_hand(float64(0.7), float64(0.3), EPS)
    expected = STEPS * nats / (DIMS * math.log(2))
    torch.testing.assert_close(found.total, expected, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(found.terms["vlb"], expected, rtol=1e-7, atol=1e-9)
    assert set(found.terms) == {"time", "unweighted", "vlb"}


@pytest.mark.parametrize("variance", [Lower(), Upper(), VARIANCE], ids=["lower", "upper", "learned"])
def test_the_variational_bound_summed_over_the_nodes_is_the_discrete_bound(variance: ReverseVariance) -> None:
    """One image, the same noise at every node; the mean over the nodes of T terms is their sum."""
    image, eps = IMAGES[:1], EPS[:1]
    same = (image.expand(STEPS, 2, 3), Given.of(eps.expand(STEPS, 2, 3)))
    terms = VariationalBound(EachNode(), STEPS, variance, LEVELS)(model(), same[0], None, same[1])
    bound = discrete_bound(model(), image, None, Given.of(eps), grids.uniform(STEPS), variance, LEVELS)
    expected = (bound.diffusion + bound.reconstruction) / (DIMS * math.log(2))
    torch.testing.assert_close(terms.total.mean(), expected[0], rtol=1e-8, atol=0)


def test_the_hybrid_bound_is_the_noise_loss_and_a_thousandth_of_the_bound() -> None:
    """Nichol & Dhariwal 2021, section 3.1: in units of noise variance plus 0.001 x bits per dimension."""
    bound = VariationalBound(EachNode(), STEPS, VARIANCE, LEVELS)
    found = HybridBound(bound)(model(), IMAGES, None, noise(STEPS))
    mse, nats = terms_by_hand(float64(0.7), float64(0.3), EPS)
    bits = STEPS * nats / (DIMS * math.log(2))
    torch.testing.assert_close(found.total, mse + 0.001 * bits, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(found.terms["mse"], mse, rtol=1e-9, atol=0)
    torch.testing.assert_close(found.terms["vlb"], bits, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(found.terms["unweighted"], found.total.detach(), rtol=0, atol=0)
    assert torch.equal(found.terms["time"], NODES)
    heavier = HybridBound(bound, weight=0.5)(model(), IMAGES, None, noise(STEPS)).total
    torch.testing.assert_close(heavier, mse + 0.5 * bits, rtol=1e-7, atol=1e-9)


def test_the_bounds_part_of_the_hybrid_teaches_the_variance_alone() -> None:
    """The mean learns from the mean square error, as if there were no bound; the head from the bound."""
    trained = model()
    objective = HybridBound(VariationalBound(EachNode(), STEPS, VARIANCE, LEVELS))
    objective(trained, IMAGES, None, noise(STEPS)).total.sum().backward()
    mean, head = float64(0.7).requires_grad_(), float64(0.3).requires_grad_()
    mse, nats = terms_by_hand(mean, head, EPS)
    (of_mean,) = torch.autograd.grad(mse.sum(), mean, retain_graph=True)
    (of_head,) = torch.autograd.grad(0.001 * STEPS / (DIMS * math.log(2)) * nats.sum(), head)
    torch.testing.assert_close(trained.network.mean.grad, of_mean, rtol=1e-9, atol=0)
    torch.testing.assert_close(trained.network.head.grad, of_head, rtol=1e-6, atol=0)
    assert abs(float(of_head)) > 1e-6


def test_the_variational_bound_teaches_both() -> None:
    trained = model()
    objective = VariationalBound(EachNode(), STEPS, VARIANCE, LEVELS)
    objective(trained, IMAGES, None, noise(STEPS)).total.sum().backward()
    mean, head = float64(0.7).requires_grad_(), float64(0.3).requires_grad_()
    nats = STEPS / (DIMS * math.log(2)) * terms_by_hand(mean, head, EPS)[1].sum()
    expected = torch.autograd.grad(nats, (mean, head))
    torch.testing.assert_close(trained.network.mean.grad, expected[0], rtol=1e-6, atol=0)
    torch.testing.assert_close(trained.network.head.grad, expected[1], rtol=1e-6, atol=0)


@pytest.mark.parametrize("hybrid", [True, False])
def test_losses_are_divided_by_the_density_and_noted_before_it(hybrid: bool) -> None:
    """Nichol & Dhariwal 2021, eq. 18: L_t / (T p_t); what loss-aware times learn from is L_t."""
    plain, dense = (VariationalBound(EachNode(share), STEPS, VARIANCE, LEVELS) for share in (1.0, 4.0))
    losses = [
        (HybridBound(bound) if hybrid else bound)(model(), IMAGES, None, noise(STEPS)) for bound in (plain, dense)
    ]
    torch.testing.assert_close(losses[1].total, losses[0].total / 4)
    for name in losses[0].terms:
        assert torch.equal(losses[0].terms[name], losses[1].terms[name]), name
        assert not losses[0].terms[name].requires_grad
    assert losses[0].total.requires_grad


def test_loss_aware_times_leave_the_bound_where_it_is() -> None:
    """The mean of the weighted losses is the mean over the nodes, whatever the history, at less variance."""
    image = IMAGES[:1]
    count = 4000
    images, zero = image.expand(count, 2, 3), Given.of(torch.zeros(count, 2, 3, dtype=torch.float64))
    every = VariationalBound(EachNode(), STEPS, VARIANCE, LEVELS)(
        model(), images[:STEPS], None, Given.of(torch.zeros(STEPS, 2, 3, dtype=torch.float64))
    )
    times = LossAware(STEPS)
    for _ in range(10):
        times.learn(every.terms["time"], every.terms["unweighted"])
    uniform, aware = (
        VariationalBound(kind, STEPS, VARIANCE, LEVELS)(model(), images, None, zero).total.detach()
        for kind in (Discrete(STEPS, Uniform()), times)
    )
    expected = float(every.total.detach().mean())
    assert float(aware.mean()) == pytest.approx(expected, rel=1e-2)
    assert float(uniform.mean()) == pytest.approx(expected, abs=4 * float(uniform.std()) / count**0.5)
    assert float(aware.std()) < 0.1 * float(uniform.std())


# The continuous bound on Gaussian data: the exact denoiser's error is snr v / (1 + snr v), so the integral over the log-SNR
# is 1/2 ln((1 + snr_0 v) / (1 + snr_1 v)).
VAR = 0.49
ENDS = [float(v) for v in CosineVP()(float64(0.0, 1.0)).log_snr]
WITH_EQUAL_ENDS: dict[str, Schedule] = {
    "cosine VP": CosineVP(),
    "geometric VE": GeometricVE(math.exp(-ENDS[0] / 2), math.exp(-ENDS[1] / 2)),
    "learned": Learned(Bent(1.4), -ENDS[0], -ENDS[1]),
}


def integral(schedule: Schedule, start: float = 0.0) -> float:
    """In bits per dimension, between ``start`` and 1."""
    high, low = schedule(float64(start, 1.0)).log_snr.detach().exp().tolist()
    return 0.5 * math.log((1 + high * VAR) / (1 + low * VAR)) / math.log(2)


@dataclass(frozen=True)
class Exact:
    """The exact denoiser of N(0, VAR), as the model that a learned schedule needs."""

    schedule: Schedule

    def __call__(self, x: Tensor, t: Tensor, cond: Any = None) -> Prediction:
        return Normal(self.schedule, 0.0, VAR)(x, t)


def continuous(schedule: Schedule, times: Times, count: int = 6000) -> tuple[float, float]:
    """(mean, its standard error) of the losses on draws of N(0, VAR)."""
    x0 = VAR**0.5 * noise(count, seed=9).normal("data", torch.zeros(count, 50, dtype=torch.float64))
    found = ContinuousBound(times)(Exact(schedule), x0, None, noise(count)).total.detach()
    return float(found.mean()), float(found.std()) / count**0.5


def times_of(name: str, schedule: Schedule) -> Times:
    return {
        "uniform": Uniform(),
        "stratified": Stratified(),
        "log-normal": LogNormalSigma(schedule, 0.0, 2.5),
        "log-SNR": UniformLogSNR(schedule),
    }[name]


@pytest.mark.parametrize("times", ["uniform", "stratified", "log-normal", "log-SNR"])
@pytest.mark.parametrize("name", WITH_EQUAL_ENDS)
def test_the_continuous_bound_is_its_integral(name: str, times: str) -> None:
    """Kingma et al. 2021, eq. 17 and section 5.1: wherever one looks, and along any schedule of the same ends."""
    schedule = WITH_EQUAL_ENDS[name]
    found, error = continuous(schedule, times_of(times, schedule))
    expected = integral(CosineVP())
    assert integral(schedule) == pytest.approx(expected, rel=1e-9)
    assert abs(found - expected) < 4 * error + 2e-3
    assert error < 0.04 * expected


def test_the_continuous_bound_begins_where_its_times_do() -> None:
    found, error = continuous(LinearVP(), Stratified(0.01))
    assert abs(found - integral(LinearVP(), 0.01)) < 4 * error


def test_the_continuous_bound_at_a_time_worked_out_by_hand() -> None:
    """1/2 (-d log_snr/dt) mean |eps - eps_hat|^2 / density in bits, of the network F = eps_hat."""

    @dataclass(frozen=True)
    class Fixed(EachNode):
        share: float = 2.5

    found = ContinuousBound(Fixed())(model(), IMAGES, None, noise(STEPS))
    mse, _ = terms_by_hand(float64(0.7), float64(0.3), EPS)
    # of a table: log alpha^2 falls by -log(1 - beta) a step, and d log_snr = d log alpha^2 / sigma^2
    ahead = torch.cat([BETAS[1:], BETAS[-1:]])
    rate = torch.log1p(-ahead) * STEPS / (1 - torch.cumprod(1 - BETAS, 0))
    torch.testing.assert_close(found.total, 0.5 / math.log(2) * -rate * mse / 2.5, rtol=1e-7, atol=0)
    assert torch.equal(found.terms["time"], NODES)


def test_uncertainty_makes_each_level_as_important() -> None:
    """Karras et al. 2024, eq. 14: w error / e^u + u, by what the network is told; best where e^u is the error."""
    parameterization = parameterizations.Karras()

    class Says(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.slope = nn.Parameter(float64(0.8))

        def forward(self, told: Tensor) -> Tensor:
            return self.slope * told + 0.1

    uncertainty, base = Says(), Denoising(EachNode(), weightings.EDM())
    found = Uncertain(base, uncertainty)(model(parameterization), IMAGES, None, noise(STEPS))
    error = base(model(parameterization), IMAGES, None, noise(STEPS)).total.detach()
    level = CHAIN(NODES)
    u = 0.8 * torch.log(level.sigma / level.alpha) / 4 + 0.1
    torch.testing.assert_close(found.total, error / torch.exp(u) + u, rtol=1e-9, atol=0)
    assert torch.equal(found.terms["error"], error)
    assert not found.terms["error"].requires_grad
    found.total.sum().backward()
    told = torch.log(level.sigma / level.alpha) / 4
    expected = ((1 - error / torch.exp(u)) * told).sum()
    torch.testing.assert_close(uncertainty.slope.grad, expected, rtol=1e-9, atol=0)


def test_a_look_is_what_the_model_sees() -> None:
    """x_t = alpha x_0 + sigma eps at the sample's own time, with the condition; the error is its noise's."""
    cond = torch.arange(STEPS, dtype=torch.float64)
    seen = look(EachNode(), model(), IMAGES, cond, noise(STEPS))
    bar = torch.cumprod(1 - BETAS, 0)[:, None, None]
    assert torch.equal(seen.level.t, NODES)
    torch.testing.assert_close(seen.x, bar.sqrt() * IMAGES + (1 - bar).sqrt() * EPS, rtol=1e-12, atol=1e-12)
    said = torch.sin(0.7 * seen.x) + cond[:, None, None]
    mse = (EPS - said).square().mean(dim=(1, 2))
    torch.testing.assert_close(seen.error(IMAGES, torch.ones_like(NODES)), mse, rtol=1e-9, atol=0)
    torch.testing.assert_close(seen.error(IMAGES, NODES), NODES * mse, rtol=1e-9, atol=0)
    assert seen.prediction.head is not None


@pytest.mark.parametrize("last", [1e-4, 1e-7, 0.0])
def test_an_error_keeps_its_digits_where_there_is_next_to_no_signal(last: float) -> None:
    """float32 at alpha = last: the velocity's error, whose weight grows as 1 / alpha^2; no weight is left at alpha = 0."""
    t = torch.full((STEPS,), 1 - last, dtype=torch.float64)

    @dataclass(frozen=True)
    class Late(EachNode):
        def __call__(self, noise: Noise) -> Tensor:
            return t

    class Says(nn.Module):
        def forward(self, x: Tensor, told: Tensor, cond: Any = None) -> Tensor:
            return torch.sin(0.7 * x)

    late = Denoiser(Says(), Rectified(), parameterizations.Flow())
    found = Denoising(Late(), weightings.FlowError())(late, IMAGES.float(), None, noise(STEPS)).total
    x = last * IMAGES + (1 - last) * EPS
    expected = (EPS - IMAGES - torch.sin(0.7 * x)).square().mean(dim=(1, 2)) * (last > 0)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0)


BOUND = VariationalBound(Discrete(STEPS, Stratified()), STEPS, VARIANCE, LEVELS)
OBJECTIVES = {
    "denoising": Denoising(Stratified(), weightings.Simple()),
    "variational": BOUND,
    "hybrid": HybridBound(BOUND),
    "continuous": ContinuousBound(Stratified(0.01)),
    "uncertain": Uncertain(Denoising(Stratified(), weightings.Simple()), nn.Identity()),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_is_a_pure_function_of_images_and_keys(name: str) -> None:
    """Sample by sample, in the images' own type; nothing depends on the batch. The condition reaches the network."""
    objective = OBJECTIVES[name]
    cond = torch.arange(STEPS, dtype=torch.float64) / STEPS
    whole = objective(model(), IMAGES, cond, noise(STEPS)).total
    keys = noise(STEPS).keys
    odd = objective(model(), IMAGES[1::2], cond[1::2], Noise(type(keys)(keys.seed, keys.ordinals[1::2]))).total
    torch.testing.assert_close(whole[1::2], odd, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(whole, objective(model(), IMAGES, cond + 1, noise(STEPS)).total)
    single = objective(model().float(), IMAGES.float(), cond.float(), noise(STEPS)).total
    assert (whole.shape, whole.dtype, single.dtype) == ((STEPS,), torch.float64, torch.float32)
    torch.testing.assert_close(single.double(), whole, rtol=2e-3, atol=2e-3)
    with pytest.raises(FrozenInstanceError):
        objective.times = objective.bound = objective.base = None  # type: ignore[attr-defined]
