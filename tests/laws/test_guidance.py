"""Guidance on a mixture of Gaussians whose scores are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from langevin.diffusion.denoiser import Denoises, Prediction
from langevin.diffusion.guidance import (
    Autoguided,
    ClassifierFree,
    ClassPotential,
    GradientGuided,
    Guided,
    Interval,
    OnData,
    Similarity,
    gradient,
)
from langevin.diffusion.samplers import DDIM, Ancestral, GuidedAncestral, walk
from langevin.diffusion.schedules import LinearVE, LinearVP, Schedule, Tabulated, linear_betas
from langevin.diffusion.variance import Learned, Lower, ReverseVariance, Upper

from .exact import SCHEDULES, Counted, Given, Mixture, float64, noise, slope

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
@pytest.mark.parametrize("scale", [-1.5, 0.0, 0.5, 1.0, 2.5, 7.0])
def test_the_score_moves_from_unconditional_to_conditional_and_beyond(schedule: Schedule, scale: float) -> None:
    """s_u + scale (s_c - s_u); Ho & Salimans 2022, eq. 6 with scale = 1 + w."""
    model = mixture(schedule)
    guided = ClassifierFree(model, scale)
    expected = score(model, None) + scale * (score(model, COND) - score(model, None))
    torch.testing.assert_close(score_of(guided(X, T, COND), schedule), expected, rtol=1e-7, atol=1e-7)


@dataclass(frozen=True)
class Exact:
    """log p(y | x_t) of a mixture by Bayes' rule, each element a witness."""

    model: Mixture

    def __call__(self, x: Tensor, t: Tensor, cond: Any) -> Tensor:
        likelihood = self.model.log_density(x, t, cond) - self.model.log_density(x, t)
        return (likelihood + torch.log(self.model.weights[cond])[:, None]).sum(1)


@ALL
@pytest.mark.parametrize("scale", [-1.5, 0.0, 0.5, 1.0, 3.0])
def test_an_exact_classifier_at_the_scale_is_classifier_free_guidance(schedule: Schedule, scale: float) -> None:
    """s_u + scale grad log p(y | x_t) = s_u + scale (s_c - s_u): Bayes' rule. Dhariwal & Nichol 2021, section 4.1."""
    model = mixture(schedule)
    by_classifier = GradientGuided(ClassifierFree(model, 0.0), Exact(model), scale)
    for t in (T, T[12]):  # each sample's own time, and one for all
        found, expected = by_classifier(X, t, COND).x0, ClassifierFree(model, scale)(X, t, COND).x0
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("scale", [-2.0, 4.0])
@pytest.mark.parametrize("schedule", [LinearVP(), LinearVE()], ids=str)
def test_classifier_guidance_moves_the_noise(schedule: Schedule, scale: float) -> None:
    """eps - sigma scale grad, for DDIM. Dhariwal & Nichol 2021, algorithm 2."""
    model = mixture(schedule)
    level = schedule(T)
    eps = model(X, T, COND).eps(X, level) - scale * level.sigma[:, None] * gradient(Exact(model), X, T, COND)
    found = GradientGuided(model, Exact(model), scale)(X, T, COND).eps(X, level)
    torch.testing.assert_close(found, eps, rtol=1e-8, atol=1e-8)


def never_asked(x: Tensor, t: Tensor, cond: Any) -> Tensor:
    raise AssertionError


def test_gradient_guidance_at_scale_0_asks_no_classifier() -> None:
    model = mixture(LinearVP())
    guided = GradientGuided(model, never_asked, 0.0)
    assert torch.equal(guided(X, T, COND).x0, model(X, T, COND).x0)
    assert guided.schedule is model.schedule
    assert guided.unguided is model


def test_gradients_are_each_samples_own_and_need_no_grad_mode() -> None:
    """Also where sampling has switched gradients off, and of nothing but x."""
    model = mixture(LinearVP())
    x = X.clone().requires_grad_()
    (expected,) = torch.autograd.grad(Exact(model)(x, T, COND).sum(), x)
    with torch.no_grad():
        found = gradient(Exact(model), X, T, COND)
    assert torch.equal(found, expected)
    assert not found.requires_grad
    assert not X.requires_grad


@dataclass(frozen=True)
class Headed:
    """A denoiser with a second head."""

    base: Mixture

    @property
    def schedule(self) -> Schedule:
        return self.base.schedule

    def __call__(self, x: Tensor, t: Tensor, cond: Any = None) -> Prediction:
        return Prediction(self.base(x, t, cond).x0, torch.sin(3 * x))


CHAIN = Tabulated(linear_betas(1000))
Z = noise(30, seed=4).normal("z", X)


@pytest.mark.parametrize("scale", [-1.0, 0.0, 2.5])
@pytest.mark.parametrize("variance", [Lower(), Upper(), Learned(1e-4)], ids=str)
def test_guided_ancestral_sampling_is_algorithm_1(variance: ReverseVariance, scale: float) -> None:
    """x_{t-1} ~ N(mu + s Sigma grad log p(y | x_t), Sigma), in DDPM's symbols; noiseless in the last step, whose mean is
    guided too. Dhariwal & Nichol 2021, algorithm 1 and their p_sample."""
    betas = linear_betas(1000)
    bar = torch.cat([float64(1.0)[None], torch.cumprod(1 - betas, 0)])
    model = Headed(mixture(CHAIN))
    for i in (700, 2, 1):  # x_i -> x_{i-1}
        t, s = float64(i / 1000), float64((i - 1) / 1000)
        x0, head = model(X, t, COND)
        beta, before, after = betas[i - 1], bar[i - 1], bar[i]
        mu = beta * before.sqrt() / (1 - after) * x0 + (1 - before) * (1 - beta).sqrt() / (1 - after) * X
        lower = beta * (1 - before) / (1 - after)
        frac = (head + 1) / 2
        sigma = {
            Lower: lower.expand_as(X),
            Upper: beta.expand_as(X),
            Learned: torch.exp(frac * beta.log() + (1 - frac) * (lower if i > 1 else float64(1e-4)).log()),
        }[type(variance)]
        mean = mu + scale * sigma * gradient(Exact(model.base), X, t, COND)
        expected = mean + sigma.sqrt() * Z if i > 1 else mean
        found = GuidedAncestral(Exact(model.base), scale, variance)(model, X, t, s, COND, Given.of(Z))
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)
    assert GuidedAncestral(never_asked, 1.0) == GuidedAncestral(never_asked, 1.0, Lower())


def test_guided_ancestral_sampling_tends_to_the_guided_score() -> None:
    """As steps shrink the moved mean is the mean of the moved D: their difference over the move falls with the step."""
    model = mixture(LinearVP())
    potential, t = Exact(model), float64(0.6)
    shrinking, shares = [20, 40, 80], []
    for number in shrinking:
        s = t - 0.5 / number
        ends = [
            sampler(denoiser, X, t, s, COND, Given.of(Z))
            for sampler, denoiser in (
                (GuidedAncestral(potential, 2.0), model),
                (Ancestral(), GradientGuided(model, potential, 2.0)),
                (Ancestral(), model),
            )
        ]
        shares.append(float((ends[0] - ends[1]).norm() / (ends[1] - ends[2]).norm()))
    assert shares[-1] < 0.2
    assert slope(shrinking, shares) == pytest.approx(1, abs=0.2)


def test_classifier_guidance_finds_the_class() -> None:
    """An unconditional walk led by the exact classifier ends at the class's own data."""
    model = mixture(LinearVP())
    count = 400
    cond = torch.arange(count) % 3
    grid = 0.02 + 0.98 * torch.linspace(1, 0, 100, dtype=torch.float64)
    start = noise(count).normal("prior", torch.zeros(count, 1, dtype=torch.float64))
    guided = GradientGuided(ClassifierFree(model, 0.0), Exact(model), 1.0)
    for denoiser, sampler in ((guided, DDIM()), (ClassifierFree(model, 0.0), GuidedAncestral(Exact(model), 1.0))):
        *_, end = walk(denoiser, sampler, start, grid, cond, noise(count, seed=3))
        for label, mean in enumerate((-0.8, 0.1, 0.9)):
            assert float(end[cond == label].mean()) == pytest.approx(mean, abs=0.12)


@pytest.mark.parametrize("scale", [-1.0, 0.0, 0.5, 1.0, 3.0])
def test_autoguidance_leads_away_from_the_weak_model(scale: float) -> None:
    """D_weak + scale (D_main - D_weak). Karras et al. 2024, eq. 3."""
    main, weak = Counted(Headed(mixture(LinearVP()))), Counted(mixture(LinearVP()))
    weak.base = Mixture(LinearVP(), weak.base.means, 4 * weak.base.vars, weak.base.weights)
    guided = Autoguided(main, weak, scale)
    expected = (1 - scale) * weak.base(X, T, COND).x0 + scale * main.base(X, T, COND).x0
    found = guided(X, T, COND)
    torch.testing.assert_close(found.x0, expected)
    assert found.head is not None
    assert (main.calls, weak.calls) == (1, 0 if scale == 1 else 1)
    assert guided.schedule is main.schedule
    assert guided.unguided is main


@pytest.mark.parametrize("name", ["linear VP", "geometric VE"])
def test_guidance_acts_within_its_interval(name: str) -> None:
    """lo < sigma / alpha <= hi: the lower side open, the upper closed, each sample by its own level."""
    schedule = SCHEDULES[name]
    model = Counted(mixture(schedule))
    guided = ClassifierFree(model, 3.0)
    level = schedule(T)
    noisiness = level.sigma / level.alpha
    lo, hi = float(noisiness[9]), float(noisiness[20])
    cut = Interval(guided, lo, hi)
    inside = (noisiness > lo) & (noisiness <= hi)
    assert inside.tolist() == [9 < i <= 20 for i in range(30)]
    found = cut(X, T, COND).x0
    torch.testing.assert_close(found[inside], guided(X, T, COND).x0[inside], rtol=0, atol=0)
    torch.testing.assert_close(found[~inside], model(X, T, COND).x0[~inside], rtol=0, atol=0)
    for place, acts in ((9, False), (10, True), (20, True), (21, False)):
        model.calls = 0
        expected = (guided if acts else model)(X, T[place], COND).x0
        model.calls = 0
        assert torch.equal(cut(X, T[place], COND).x0, expected)
        assert model.calls == (2 if acts else 1)
    assert cut.schedule is schedule
    assert cut.unguided is model


def test_an_interval_works_on_any_guidance_and_keeps_the_head() -> None:
    model = Headed(mixture(LinearVP()))
    weak = mixture(LinearVP())
    wrappers: list[Guided] = [
        ClassifierFree(model, 2.0),
        Autoguided(model, weak, 2.0),
        GradientGuided(model, Exact(weak), 2.0),
    ]
    level = LinearVP()(T)
    middle = float((level.sigma / level.alpha)[14])
    for guided in wrappers:
        found = Interval(guided, 0.0, middle)(X, T, COND)
        assert torch.equal(found.x0[:15], guided(X, T, COND).x0[:15])
        assert torch.equal(found.x0[15:], model(X, T, COND).x0[15:])
        assert found.head is not None


class Linear(nn.Module):
    """Logits weight x + slope t."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        return x @ self.weight.T + noise[:, None] * torch.arange(len(self.weight), dtype=x.dtype)


def test_a_classifiers_potential_is_its_log_share() -> None:
    """log softmax at the label, and d/dx of it is w_y - the softmax's mean of w; -1 has a flat potential."""
    weight = noise(4).normal("w", torch.zeros(4, 2, dtype=torch.float64))
    network = Linear(weight)
    cond = torch.tensor([0, 3, -1, 2, 1] * 6)
    potential = ClassPotential(network)
    shares = torch.softmax(X @ weight.T + T[:, None] * torch.arange(4), dim=1)
    chosen = cond >= 0
    expected = torch.log(shares[torch.arange(30), cond])
    torch.testing.assert_close(potential(X, T, cond)[chosen], expected[chosen])
    assert not bool(potential(X, T, cond)[~chosen].any())
    slopes = gradient(potential, X, T, cond)
    torch.testing.assert_close(slopes[chosen], (weight[cond] - shares @ weight)[chosen])
    assert float(slopes[~chosen].abs().max()) == 0


def test_no_condition_at_all_has_a_flat_potential_too() -> None:
    """0 everywhere, so that its gradient is there and is 0; the classifier is not asked."""
    potential = ClassPotential(Linear(torch.eye(2, dtype=torch.float64)))
    for found in (potential(X, T, None), gradient(potential, X, T, None)):
        assert torch.equal(found, torch.zeros_like(found))


def test_a_classifier_is_told_the_time_in_the_images_precision() -> None:
    told: list[Tensor] = []

    class Listening(nn.Module):
        def forward(self, x: Tensor, noise: Tensor) -> Tensor:
            told.append(noise)
            return x

    ClassPotential(Listening())(X.float(), T, torch.zeros(30, dtype=torch.int64))
    Similarity(lambda x, t: told.append(t) or x, lambda cond: X.float())(X.float(), T, None)
    for noise_level in told:
        assert noise_level.dtype == torch.float32
        torch.testing.assert_close(noise_level, T.float())
    assert len(told) == 2


def test_similarity_is_the_cosine_of_the_embeddings() -> None:
    """<a, b> / (|a| |b|), whose gradient by a is (b / |b| - cos a / |a|) / |a|."""
    texts = noise(3).normal("text", torch.zeros(3, 2, dtype=torch.float64))
    potential = Similarity(lambda x, t: x * (1 + t[:, None]), lambda cond: texts[cond])
    text = texts[COND]
    cosine = (X * text).sum(1) / (X.norm(dim=1) * text.norm(dim=1))
    torch.testing.assert_close(potential(X, T, COND), cosine)
    size = X.norm(dim=1, keepdim=True)
    expected = (text / text.norm(dim=1, keepdim=True) - cosine[:, None] * X / size) / size
    torch.testing.assert_close(gradient(potential, X, T, COND), expected)


def test_a_potential_of_clean_images_is_felt_through_the_denoiser() -> None:
    """grad of potential(D(x_t)) by x_t, against central differences. Bansal et al. 2023, eq. 6."""
    model: Denoises = mixture(LinearVP())

    def potential(x0: Tensor, cond: Any) -> Tensor:
        return torch.cos(2 * x0).sum(1) * (1 + cond)

    on_data = OnData(model, potential)
    torch.testing.assert_close(on_data(X, T, COND), potential(model(X, T, COND).x0, COND))
    found = gradient(on_data, X, T, COND)
    for column in range(2):
        nudge = torch.zeros_like(X)
        nudge[:, column] = 1e-5
        difference = (on_data(X + nudge, T, COND) - on_data(X - nudge, T, COND)) / 2e-5
        torch.testing.assert_close(found[:, column], difference, rtol=1e-6, atol=1e-6)


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
