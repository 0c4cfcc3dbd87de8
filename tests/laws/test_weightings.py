"""Losses of other papers are weights on one error: computed both ways and compared."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from langevin.diffusion import parameterizations, weightings
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.levels import NoiseLevel
from langevin.diffusion.objectives import Denoising
from langevin.diffusion.parameterizations import Parameterization
from langevin.diffusion.schedules import LinearVP
from langevin.diffusion.weightings import Weighting
from langevin.randomness import Noise

from .exact import SCHEDULES, float64, noise

COUNT = 64
DATA = noise(COUNT, seed=3).normal("data", torch.zeros(COUNT, 2, 3, dtype=torch.float64))
VP = ["linear VP", "cosine VP", "linear chain", "cosine chain"]
OTHERS = ["sub-VP", "geometric VE", "linear VE", "rectified"]

Target = Callable[[Tensor, Tensor, NoiseLevel], Tensor]


@dataclass(frozen=True)
class Spread:
    """Times from 0.02 to 0.98, one a sample."""

    def __call__(self, noise: Noise) -> Tensor:
        return torch.linspace(0.02, 0.98, COUNT, dtype=torch.float64)

    def density(self, t: Tensor) -> Tensor:
        raise AssertionError("the denoising loss asks for no density")


class Guess(nn.Module):
    """An untrained network: some function of its input, the noise and the condition."""

    def forward(self, x: Tensor, told: Tensor, cond: Any = None) -> Tensor:
        return torch.sin(3 * x + told[:, None, None]) + (0 if cond is None else cond[:, None, None])


def loss(schedule_name: str, parameterization: Parameterization, weighting: Weighting) -> Tensor:
    """(COUNT,) of the objective, for a network that guesses."""
    model = Denoiser(Guess(), SCHEDULES[schedule_name], parameterization)
    found = Denoising(Spread(), weighting)(model, DATA, None, noise(COUNT))
    assert found.terms.keys() == {"time"}
    return found.total


def written_out(schedule_name: str, target: Target, told: Callable[[NoiseLevel], Tensor] = lambda at: at.t) -> Tensor:
    """(COUNT,) mean over the elements of (target - F)^2; target(x_0, eps, level). told: what F hears of the level."""
    eps = noise(COUNT).normal("forward", DATA)
    level = SCHEDULES[schedule_name](Spread()(noise(COUNT)))
    at = level.against(DATA)
    x = at.alpha * DATA + at.sigma * eps
    return (target(DATA, eps, at) - Guess()(x, told(level))).square().mean(dim=(1, 2))


def snr(schedule_name: str) -> Tensor:
    level = SCHEDULES[schedule_name](Spread()(noise(COUNT)))
    return level.alpha**2 / level.sigma**2


def same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("schedule", [*VP, *OTHERS])
def test_simple_is_the_noise_loss(schedule: str) -> None:
    """Ho et al. 2020, eq. 14."""
    found = loss(schedule, parameterizations.Noise(), weightings.Simple())
    same(found, written_out(schedule, lambda x0, eps, level: eps))


@pytest.mark.parametrize("schedule", VP)
def test_velocity_error_is_the_v_loss(schedule: str) -> None:
    """Salimans & Ho 2022, section 4."""
    found = loss(schedule, parameterizations.Velocity(), weightings.VelocityError())
    same(found, written_out(schedule, lambda x0, eps, level: level.alpha * eps - level.sigma * x0))


@pytest.mark.parametrize("schedule", [*VP, *OTHERS])
def test_data_error_is_the_x0_loss(schedule: str) -> None:
    found = loss(schedule, parameterizations.Data(), weightings.DataError())
    same(found, written_out(schedule, lambda x0, eps, level: x0))


@pytest.mark.parametrize("schedule", [*VP, *OTHERS])
def test_flow_error_is_the_loss_of_the_straight_paths_velocity(schedule: str) -> None:
    """Liu et al. 2022, eq. 1: |(x_1 - x_0) - v|^2, whatever the path between them."""
    found = loss(schedule, parameterizations.Flow(), weightings.FlowError())
    same(found, written_out(schedule, lambda x0, eps, level: eps - x0))


@pytest.mark.parametrize("schedule", ["linear VE", "geometric VE", "cosine VP", "rectified"])
@pytest.mark.parametrize("sigma_data", [0.5, 1.3])
def test_edm_is_unit_weight_on_the_networks_own_error(schedule: str, sigma_data: float) -> None:
    """Karras et al. 2022, eq. 8, its effective target and weight lambda c_out^2 = 1; in y = x / alpha, s = sigma / alpha."""
    parameterization = parameterizations.Karras(sigma_data)

    class Guess8(nn.Module):
        def forward(self, given: Tensor, told: Tensor, cond: Any = None) -> Tensor:
            return torch.sin(3 * given + 4 * told[:, None, None])

    model = Denoiser(Guess8(), SCHEDULES[schedule], parameterization)
    found = Denoising(Spread(), weightings.EDM(sigma_data))(model, DATA, None, noise(COUNT)).total
    level = SCHEDULES[schedule](Spread()(noise(COUNT))).against(DATA)
    s = level.sigma / level.alpha
    y = DATA + s * noise(COUNT).normal("forward", DATA)
    power = s**2 + sigma_data**2
    said = torch.sin(3 * y / power.sqrt() + s.log())
    target = (DATA - sigma_data**2 / power * y) * power.sqrt() / (s * sigma_data)
    same(found, (target - said).square().mean(dim=(1, 2)))


def test_edm_weighs_the_x0_loss_as_published() -> None:
    """lambda(sigma) = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2. Karras et al. 2022, table 1."""
    found = loss("linear VE", parameterizations.Data(), weightings.EDM())
    sigma = SCHEDULES["linear VE"](Spread()(noise(COUNT))).sigma
    x0_loss = written_out("linear VE", lambda x0, eps, level: x0)
    same(found, x0_loss * (sigma**2 + 0.25) / (0.5 * sigma) ** 2)


@pytest.mark.parametrize("schedule", [*VP, "geometric VE"])
def test_score_matching_with_sigma_squared_is_the_noise_loss(schedule: str) -> None:
    """Song & Ermon 2019, eq. 5-6: sigma^2 |score + eps / sigma|^2."""
    found = loss(schedule, parameterizations.Score(), weightings.Simple())
    eps, t = noise(COUNT).normal("forward", DATA), Spread()(noise(COUNT))
    level = SCHEDULES[schedule](t).against(DATA)
    score = Guess()(level.alpha * DATA + level.sigma * eps, t)
    same(found, (level.sigma**2 * (score + eps / level.sigma) ** 2).mean(dim=(1, 2)))


@pytest.mark.parametrize("schedule", ["linear VP", "sub-VP", "geometric VE", "linear VE", "cosine VP"])
def test_likelihood_weighs_score_matching_by_the_diffusion(schedule: str) -> None:
    """Song et al. 2021 (maximum likelihood), theorem 1: lambda = g^2 on |score - grad log q(x_t | x_0)|^2."""
    found = loss(schedule, parameterizations.Score(), weightings.Likelihood(SCHEDULES[schedule]))
    eps, t = noise(COUNT).normal("forward", DATA), Spread()(noise(COUNT))
    level = SCHEDULES[schedule](t).against(DATA)
    score = Guess()(level.alpha * DATA + level.sigma * eps, t)
    matching = ((score + eps / level.sigma) ** 2).mean(dim=(1, 2))
    same(found, SCHEDULES[schedule].diffusion_sq(t) * matching)


@pytest.mark.parametrize("schedule", ["cosine chain", "geometric VE", "rectified"])
@pytest.mark.parametrize(
    ("weighting", "on_x0_loss"),
    [
        (weightings.MinSNR(1.0), lambda snr: snr.clamp(max=1.0)),  # Hang et al. 2023, eq. 8
        (weightings.MinSNR(), lambda snr: snr.clamp(max=5.0)),
        (weightings.TruncatedSNR(), lambda snr: snr.clamp(min=1.0)),  # Salimans & Ho 2022, section 4
        (
            weightings.SoftMinSNR(2.0),
            lambda snr: 1 / (1 / snr + 1 / 2),
        ),  # Crowson et al. 2024: 1 / (sigma^2 + 1 / gamma)
        (weightings.SoftMinSNR(), lambda snr: 1 / (1 / snr + 1 / 5)),
    ],
    ids=["min-SNR-1", "min-SNR", "truncated SNR", "soft-min-SNR-2", "soft-min-SNR"],
)
def test_weights_of_the_x0_loss(schedule: str, weighting: Weighting, on_x0_loss: Callable[[Tensor], Tensor]) -> None:
    """In their papers they are functions of the SNR on |x_0 - D|^2."""
    found = loss(schedule, parameterizations.Data(), weighting)
    ratio = snr(schedule)
    assert bool((ratio < 1).any())
    assert bool((ratio > 5).any())
    same(found, written_out(schedule, lambda x0, eps, level: x0) * on_x0_loss(ratio))


@pytest.mark.parametrize(
    ("weighting", "k", "gamma"), [(weightings.P2(), 1, 1), (weightings.P2(gamma=0.5, k=3.0), 3, 0.5)]
)
def test_p2_divides_the_noise_loss(weighting: Weighting, k: float, gamma: float) -> None:
    """Choi et al. 2022, eq. 8: lambda' = lambda / (k + snr)^gamma, where lambda is what makes L_simple."""
    found = loss("cosine chain", parameterizations.Noise(), weighting)
    same(found, written_out("cosine chain", lambda x0, eps, level: eps) / (k + snr("cosine chain")) ** gamma)


def test_weights_at_a_level_worked_out_by_hand() -> None:
    """alpha = 0.8, sigma = 0.6: snr = 16/9. alpha = 0.6, sigma = 0.8: 9/16. alpha = 0.96, sigma = 0.28: 576/49."""
    level = NoiseLevel(float64(0.3, 0.5, 0.1), float64(0.8, 0.6, 0.96), float64(0.6, 0.8, 0.28))
    by_hand: list[tuple[Weighting, list[float]]] = [
        (weightings.Simple(), [1, 1, 1]),
        (weightings.DataError(), [9 / 16, 16 / 9, 49 / 576]),
        (weightings.VelocityError(), [25 / 16, 25 / 9, 625 / 576]),
        (weightings.MinSNR(), [1, 1, 245 / 576]),
        (weightings.MinSNR(1.0), [9 / 16, 1, 49 / 576]),
        (weightings.TruncatedSNR(), [1, 16 / 9, 1]),
        (weightings.SoftMinSNR(), [45 / 61, 80 / 89, 245 / 821]),
        (weightings.P2(), [9 / 25, 16 / 25, 49 / 625]),
        (weightings.P2(0.5), [3 / 5, 4 / 5, 7 / 25]),
        (weightings.EDM(), [1 + 9 / 4, 1 + 64 / 9, 1 + 49 / 144]),
        (weightings.EDM(1.0), [25 / 16, 25 / 9, 625 / 576]),
        (weightings.FlowError(), [(7 / 4) ** 2, (7 / 3) ** 2, (31 / 24) ** 2]),
    ]
    for weighting, expected in by_hand:
        torch.testing.assert_close(weighting(level), float64(*expected), rtol=1e-13, atol=0, msg=repr(weighting))


def test_likelihood_at_a_level_worked_out_by_hand() -> None:
    """Linear VP at t = 1/2: beta = 10.05, log alpha^2 = -(19.9 / 8 + 0.05), so g^2 / sigma^2 = beta / (1 - alpha^2)."""
    found = weightings.Likelihood(LinearVP())(LinearVP()(float64(0.5)))
    assert float(found) == pytest.approx(10.05 / (1 - math.exp(-2.5375)), rel=1e-13)


EVERY: list[Weighting] = [
    weightings.Simple(),
    weightings.DataError(),
    weightings.VelocityError(),
    weightings.MinSNR(),
    weightings.TruncatedSNR(),
    weightings.SoftMinSNR(),
    weightings.P2(),
    weightings.EDM(),
    weightings.FlowError(),
    weightings.Likelihood(SCHEDULES["cosine VP"]),
]


class Saying(nn.Module):
    """F of another parameterization for the denoiser whose F = eps is Guess, on cosine VP.

    state: x_t from the input; said(x_t, D, eps, level): F.
    """

    def __init__(
        self,
        said: Callable[[Tensor, Tensor, Tensor, NoiseLevel], Tensor],
        state: Callable[[Tensor, NoiseLevel], Tensor] = lambda given, level: given,
        time: Callable[[Tensor], Tensor] = lambda told: told,
    ) -> None:
        super().__init__()
        self.said, self.state, self.time = said, state, time

    def forward(self, given: Tensor, told: Tensor, cond: Any = None) -> Tensor:
        t = self.time(told)
        level = SCHEDULES["cosine VP"](t).against(given)
        x = self.state(given, level)
        eps = Guess()(x, t)
        return self.said(x, (x - level.sigma * eps) / level.alpha, eps, level)


def karras_network() -> Saying:
    def said(x: Tensor, x0: Tensor, eps: Tensor, level: NoiseLevel) -> Tensor:
        s = level.sigma / level.alpha
        return (x0 - 0.25 / (s**2 + 0.25) * x / level.alpha) * torch.sqrt(s**2 + 0.25) / (s * 0.5)

    return Saying(
        said,
        lambda given, level: given * torch.sqrt(level.sigma**2 + 0.25 * level.alpha**2),
        lambda told: SCHEDULES["cosine VP"].time(-8 * told),
    )


OTHER_WORDS: dict[str, tuple[Parameterization, Saying]] = {
    "data": (parameterizations.Data(), Saying(lambda x, x0, eps, level: x0)),
    "velocity": (
        parameterizations.Velocity(),
        Saying(lambda x, x0, eps, level: level.alpha * eps - level.sigma * x0),
    ),
    "score": (parameterizations.Score(), Saying(lambda x, x0, eps, level: -eps / level.sigma)),
    "flow": (parameterizations.Flow(), Saying(lambda x, x0, eps, level: eps - x0)),
    "Karras": (parameterizations.Karras(), karras_network()),
}


@pytest.mark.parametrize("name", OTHER_WORDS)
@pytest.mark.parametrize("weighting", EVERY, ids=lambda weighting: type(weighting).__name__)
def test_one_loss_over_all_parameterizations(weighting: Weighting, name: str) -> None:
    """What the network predicts is not what the loss weighs: the same D, however said, has the same loss."""
    parameterization, network = OTHER_WORDS[name]
    objective = Denoising(Spread(), weighting)
    found = objective(Denoiser(network, SCHEDULES["cosine VP"], parameterization), DATA, None, noise(COUNT)).total
    torch.testing.assert_close(found, loss("cosine VP", parameterizations.Noise(), weighting), rtol=1e-8, atol=0)


@pytest.mark.parametrize("weighting", EVERY, ids=lambda weighting: type(weighting).__name__)
def test_weights_are_values_of_the_levels_shape_and_type(weighting: Weighting) -> None:
    for t in (float64(0.25), float64(0.25, 0.5), torch.tensor([[0.25], [0.5]])):
        found = weighting(SCHEDULES["cosine VP"](t))
        assert (found.shape, found.dtype) == (t.shape, t.dtype)
    assert weighting in set(EVERY)
    with pytest.raises(FrozenInstanceError):
        weighting.gamma = 2.0  # type: ignore[attr-defined]


def test_the_objective_knows_only_weights_images_and_keys() -> None:
    """Half a batch has the whole batch's losses, sample by sample; the condition reaches the network."""
    model = Denoiser(Guess(), SCHEDULES["cosine VP"], parameterizations.Noise())
    cond = torch.arange(COUNT, dtype=torch.float64)

    @dataclass(frozen=True)
    class Keyed(Spread):
        def __call__(self, noise: Noise) -> Tensor:
            return 0.1 + 0.8 * noise.uniform("timestep", noise.keys.ordinals.double())

    objective = Denoising(Keyed(), weightings.Simple())
    whole = objective(model, DATA, cond, noise(COUNT)).total
    keys = noise(COUNT).keys
    odd = objective(model, DATA[1::2], cond[1::2], Noise(type(keys)(keys.seed, keys.ordinals[1::2]))).total
    torch.testing.assert_close(whole[1::2], odd, rtol=1e-13, atol=0)
    assert not torch.allclose(whole, objective(model, DATA, cond + 1, noise(COUNT)).total)
    assert not torch.allclose(whole, objective(model, DATA, cond, noise(COUNT, seed=1)).total)
