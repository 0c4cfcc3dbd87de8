"""One denoiser, said in many ways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
import torch
from torch import Tensor

from langevin.diffusion import parameterizations
from langevin.diffusion.denoiser import Denoiser, Rescheduled
from langevin.diffusion.levels import NoiseLevel
from langevin.diffusion.parameterizations import Blind, Parameterization, ToldLogSNR, UnitInput, needs_signal
from langevin.diffusion.schedules import Schedule

from .exact import SCHEDULES, Network, Normal, float64, noise

T = torch.linspace(0.02, 0.98, 25, dtype=torch.float64)
X = torch.linspace(-3, 3, 75, dtype=torch.float64).reshape(25, 3)
SIGMA_DATA = 0.5


def eps_of(x: Tensor, x0: Tensor, level: NoiseLevel) -> Tensor:
    return (x - level.alpha * x0) / level.sigma


def as_noise(exact: Normal) -> Network:
    return Network(exact, eps_of)


def as_data(exact: Normal) -> Network:
    return Network(exact, lambda x, x0, level: x0)


def as_velocity(exact: Normal) -> Network:
    """Of any alpha and sigma, VP or not."""
    return Network(exact, lambda x, x0, level: level.alpha * eps_of(x, x0, level) - level.sigma * x0)


def as_flow(exact: Normal) -> Network:
    """Of any alpha and sigma, straight or not."""
    return Network(exact, lambda x, x0, level: eps_of(x, x0, level) - x0)


def as_score(exact: Normal) -> Network:
    """grad log N(x_t; alpha mean, alpha^2 var + sigma^2)."""
    return Network(
        exact,
        lambda x, x0, level: (level.alpha * exact.mean - x) / (level.alpha**2 * exact.var + level.sigma**2),
    )


def as_karras(exact: Normal) -> Network:
    """F of Karras et al. 2022, table 1, in their variables y = x / alpha and s = sigma / alpha."""

    def target(x: Tensor, x0: Tensor, level: NoiseLevel) -> Tensor:
        s, y = level.sigma / level.alpha, x / level.alpha
        c_skip = SIGMA_DATA**2 / (s**2 + SIGMA_DATA**2)
        c_out = s * SIGMA_DATA / torch.sqrt(s**2 + SIGMA_DATA**2)
        return (x0 - c_skip * y) / c_out

    def state(given: Tensor, level: NoiseLevel) -> Tensor:
        s = level.sigma / level.alpha
        return given * torch.sqrt(s**2 + SIGMA_DATA**2) * level.alpha  # input = y / sqrt(s^2 + sigma_data^2)

    def time(c_noise: Tensor) -> Tensor:
        return exact.schedule.time(-8 * c_noise)  # c_noise = ln(s) / 4

    return Network(exact, target, state, time)


EXPRESSED: dict[str, tuple[Parameterization, Callable[[Normal], Network]]] = {
    "noise": (parameterizations.Noise(), as_noise),
    "data": (parameterizations.Data(), as_data),
    "velocity": (parameterizations.Velocity(), as_velocity),
    "flow": (parameterizations.Flow(), as_flow),
    "score": (parameterizations.Score(), as_score),
    "Karras": (parameterizations.Karras(SIGMA_DATA), as_karras),
}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("name", EXPRESSED)
def test_the_denoiser_does_not_depend_on_what_its_network_predicts(name: str, schedule: Schedule) -> None:
    exact = Normal(schedule)
    parameterization, express = EXPRESSED[name]
    found = Denoiser(express(exact), schedule, parameterization)(X, T)
    expected = exact(X, T)
    torch.testing.assert_close(found.x0, expected.x0, rtol=1e-8, atol=1e-8)
    level = schedule(T)
    eps = found.eps(X, level)
    torch.testing.assert_close(level.diffuse(found.x0, eps), X, rtol=1e-12, atol=1e-12)
    assert found.head is None


@pytest.mark.parametrize("name", ["velocity", "data", "flow"])
def test_velocity_data_and_flow_need_no_signal_at_t_1(name: str) -> None:
    """Where alpha = 0 the denoiser is the mean of the data, and finite."""
    exact = Normal(SCHEDULES["rectified"])
    parameterization, express = EXPRESSED[name]
    t = torch.ones(25, dtype=torch.float64)
    found = Denoiser(express(exact), exact.schedule, parameterization)(X, t).x0
    torch.testing.assert_close(found, torch.full_like(X, exact.mean))


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_karras_input_and_target_have_unit_variance(schedule: Schedule) -> None:
    """At every level, for data of deviation sigma_data: Karras et al. 2022, appendix B.6."""
    level, c = schedule(T), parameterizations.Karras(SIGMA_DATA)(schedule(T))
    var = level.alpha**2 * SIGMA_DATA**2 + level.sigma**2
    torch.testing.assert_close(c.scale**2 * var, torch.ones_like(T))
    # target (x_0 - skip x_t) / out: x_0 and the noise are independent
    target = ((1 - c.skip * level.alpha) ** 2 * SIGMA_DATA**2 + (c.skip * level.sigma) ** 2) / c.out**2
    torch.testing.assert_close(target, torch.ones_like(T))
    torch.testing.assert_close(c.noise, torch.log(level.sigma / level.alpha) / 4)


@pytest.mark.parametrize("name", EXPRESSED)
def test_a_network_may_say_more_than_the_data(name: str) -> None:
    """Channels beyond the image's are the head, untouched by skip and out."""
    exact = Normal(SCHEDULES["cosine VP"])
    parameterization, express = EXPRESSED[name]
    base = express(exact)

    class WithHead(torch.nn.Module):
        def forward(self, x: Tensor, told: Tensor, cond: object) -> Tensor:
            return torch.cat([base(x, told, cond), torch.full_like(x, 7.0)], dim=1)

    found = Denoiser(WithHead(), exact.schedule, parameterization)(X, T)
    torch.testing.assert_close(found.x0, exact(X, T).x0)
    assert found.head is not None
    assert torch.equal(found.head, torch.full_like(X, 7.0))


def test_one_time_serves_a_whole_batch() -> None:
    exact = Normal(SCHEDULES["cosine VP"])
    model = Denoiser(as_noise(exact), exact.schedule, parameterizations.Noise())
    assert torch.equal(model(X, T[3]).x0, model(X, T[3].expand(25)).x0)


def test_images_meet_their_own_level() -> None:
    """Every sample of (B, C, H, W) at its own t equals the sample by itself."""
    exact = Normal(SCHEDULES["cosine VP"])
    model = Denoiser(as_velocity(exact), exact.schedule, parameterizations.Velocity())
    images = noise(5).normal("images", torch.zeros(5, 2, 3, 4, dtype=torch.float64))
    t = torch.tensor([0.1, 0.9, 0.3, 0.5, 0.7], dtype=torch.float64)
    alone = [model(images[i : i + 1], t[i]).x0 for i in range(5)]
    torch.testing.assert_close(model(images, t).x0, torch.cat(alone), rtol=1e-14, atol=0)


@pytest.mark.parametrize("name", EXPRESSED)
@pytest.mark.parametrize(
    ("trained", "used"), [("cosine VP", "geometric VE"), ("sub-VP", "rectified"), ("linear VE", "linear VP")]
)
def test_the_denoiser_does_not_depend_on_the_frame(name: str, trained: str, used: str) -> None:
    """One density of the data has one denoiser, whatever schedule its network was trained on."""
    exact = Normal(SCHEDULES[trained])
    parameterization, express = EXPRESSED[name]
    model = Rescheduled(Denoiser(express(exact), SCHEDULES[trained], parameterization), SCHEDULES[used])
    inside = SCHEDULES[trained](float64(0.99, 0.01)).log_snr
    there = SCHEDULES[used](T).log_snr
    t = T[(there > inside[0]) & (there < inside[1])]
    assert len(t) > 5
    x = X[: len(t)]
    torch.testing.assert_close(model(x, t).x0, Normal(SCHEDULES[used])(x, t).x0, rtol=1e-8, atol=1e-8)


LEVEL = NoiseLevel(float64(0.3), float64(0.8), float64(0.6))
BY_HAND: list[tuple[Parameterization, tuple[float, float, float, float]]] = [  # skip, out, scale, noise
    (parameterizations.Noise(), (1.25, -0.75, 1, 0.3)),
    (parameterizations.Data(), (0, 1, 1, 0.3)),
    (parameterizations.Velocity(), (0.8, -0.6, 1, 0.3)),
    (parameterizations.Score(), (1.25, 0.45, 1, 0.3)),
    (parameterizations.Flow(), (1 / 1.4, -0.6 / 1.4, 1, 0.3)),
    # s = 3/4: s^2 + 1/4 = 13/16, ln(3/4) / 4
    (parameterizations.Karras(), (5 / 13, 1.5 / 13**0.5, 5 / 13**0.5, -0.07192051811294521)),
    (parameterizations.Karras(0.75), (0.625, 0.75 / 2**0.5, 5 / 3 / 2**0.5, -0.07192051811294521)),
    (Blind(parameterizations.Velocity()), (0.8, -0.6, 1, 0)),
    # log-SNR = 2 ln(4/3) = 0.5753641449035618
    (ToldLogSNR(parameterizations.Data(), -1.0, 1.0), (0, 1, 1, (1 - 0.5753641449035618) / 2)),
    (ToldLogSNR(parameterizations.Noise(), -2.0, 6.0), (1.25, -0.75, 1, (6 - 0.5753641449035618) / 8)),
    (UnitInput(parameterizations.Noise()), (1.25, -0.75, 1, 0.3)),
]


@pytest.mark.parametrize(("parameterization", "expected"), BY_HAND, ids=[repr(case[0]) for case in BY_HAND])
def test_coefficients_at_a_level_worked_out_by_hand(
    parameterization: Parameterization, expected: tuple[float, float, float, float]
) -> None:
    found = parameterization(LEVEL)
    torch.testing.assert_close(
        torch.stack([found.skip, found.out, found.scale, found.noise]), float64(*expected), rtol=1e-14, atol=1e-15
    )
    for value in (found.skip, found.out, found.scale, found.noise):
        assert (value.shape, value.dtype) == ((), torch.float64)
    assert parameterization in {parameterization}
    with pytest.raises(FrozenInstanceError):
        parameterization.base = None  # type: ignore[attr-defined]
    with pytest.raises(FrozenInstanceError):
        found.skip = found.out  # type: ignore[misc]


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_a_blind_network_is_told_nothing(schedule: Schedule) -> None:
    """Song & Ermon 2020, technique 3: a score F(x) / sigma is the noise -F(x)."""

    class Says(torch.nn.Module):
        def forward(self, x: Tensor, told: Tensor, cond: Any) -> Tensor:
            assert torch.equal(told, torch.zeros(25, dtype=torch.float64))
            return torch.cos(x)

    found = Denoiser(Says(), schedule, Blind(parameterizations.Noise()))(X, T).x0
    level = schedule(T).against(X)
    score = -torch.cos(X) / level.sigma
    torch.testing.assert_close(found, (X + level.sigma**2 * score) / level.alpha, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["linear VP", "sub-VP", "geometric VE", "cosine chain"])
def test_a_network_told_the_log_snr_hears_its_place_between_the_ends(name: str) -> None:
    """0 at the data's end, 1 at the noise's; the same level is called the same on every schedule."""
    schedule = SCHEDULES[name]
    low, high = (float(v) for v in schedule(float64(1.0, 0.001)).log_snr)
    told = ToldLogSNR(parameterizations.Noise(), low, high)
    ends = told(schedule(float64(0.001, 1.0))).noise
    torch.testing.assert_close(ends, float64(0.0, 1.0), rtol=0, atol=1e-14)
    log_snr = torch.linspace(-3, 3, 7, dtype=torch.float64)
    other = SCHEDULES["cosine VP"]
    here, there = (told(one(one.time(log_snr))).noise for one in (schedule, other))
    torch.testing.assert_close(here, there, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(here.diff(), torch.full((6,), -1 / (high - low), dtype=torch.float64))


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_unit_input_has_unit_variance_for_data_of_unit_variance(schedule: Schedule) -> None:
    level = schedule(T)
    base, found = parameterizations.Velocity()(level), UnitInput(parameterizations.Velocity())(level)
    torch.testing.assert_close(found.scale**2 * (level.alpha**2 + level.sigma**2), torch.ones_like(T))
    assert all(torch.equal(getattr(found, name), getattr(base, name)) for name in ("skip", "out", "noise"))


NEEDS = [parameterizations.Noise(), parameterizations.Score(), parameterizations.Karras()]
NEEDS_NOT = [parameterizations.Data(), parameterizations.Velocity(), parameterizations.Flow()]


@pytest.mark.parametrize("parameterization", [*NEEDS, *NEEDS_NOT], ids=repr)
def test_who_needs_signal(parameterization: Parameterization) -> None:
    needs = parameterization in NEEDS
    assert needs_signal(parameterization) is needs
    assert needs_signal(Blind(parameterization)) is needs
    assert needs_signal(ToldLogSNR(parameterization, -5.0, 5.0)) is needs
    assert needs_signal(UnitInput(parameterization)) is needs
    last = parameterization(SCHEDULES["rectified"](float64(1.0)))
    assert bool(torch.isfinite(last.skip + last.out)) is not needs
