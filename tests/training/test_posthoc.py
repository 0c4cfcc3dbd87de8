"""Power-function averages: figures of the paper, averages against their integrals, and reconstruction of other lengths."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate
from torch import nn

from langevin.training.ema import PowerEMA
from langevin.training.posthoc import Profile, gamma_of, inner_products, nearest, std_of, weight_of_new

STDS = (0.05, 0.1)


class Wandering(nn.Module):
    """One weight, a known function of the images seen: the sum of waves, the last as short as a tenth of the training."""

    def __init__(self, last: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.last = last

    def goes(self, images: int) -> Wandering:
        at = images / self.last
        with torch.no_grad():
            self.weight.fill_(math.exp(-3 * at) + 0.2 * math.sin(9 * at) + 0.05 * math.sin(60 * at))
        return self


def test_figures_of_the_paper() -> None:
    """Gamma 16.97 for 5 %, 6.94 for 10 % (section 3.1), 0 for the mean of all weights."""
    assert gamma_of(0.05) == pytest.approx(16.972199, abs=1e-6)
    assert gamma_of(0.1) == pytest.approx(6.937204, abs=1e-6)
    assert gamma_of(math.sqrt(1 / 12)) == pytest.approx(0, abs=1e-12)


@given(st.floats(0.001, 0.2899))
def test_std_and_gamma_are_inverse(std: float) -> None:
    assert std_of(gamma_of(std)) == pytest.approx(std, rel=1e-12)


@pytest.mark.parametrize("std", [0.0, -0.1, 0.29, 1.0, math.nan])
def test_a_length_that_no_power_function_has(std: float) -> None:
    with pytest.raises(ValueError, match=f"std = {std}"):
        gamma_of(std)


def density(profile: Profile, t: float) -> float:
    gamma = gamma_of(profile.std)
    return (gamma + 1) / profile.end * (t / profile.end) ** gamma if t <= profile.end else 0.0


@pytest.mark.parametrize("std", [0.03, 0.1, 0.2, 0.28])
def test_std_is_the_profile_s_width(std: float) -> None:
    profile = Profile(std, 7)
    mass, mean, square = (
        integrate.quad(lambda t, n=n: (t / 7) ** n * density(profile, t), 0, 7, epsabs=1e-12)[0] for n in range(3)
    )
    assert mass == pytest.approx(1, rel=1e-9)
    assert math.sqrt(square - mean**2) == pytest.approx(std, rel=1e-6)


def test_inner_products_are_integrals_and_symmetric() -> None:
    profiles = [Profile(0.05, 400), Profile(0.1, 700), Profile(0.2, 400), Profile(0.05, 1000)]
    found = inner_products(profiles, profiles)
    for i, a in enumerate(profiles):
        for j, b in enumerate(profiles):
            whole = integrate.quad(lambda t, a=a, b=b: density(a, t) * density(b, t), 0, min(a.end, b.end))[0]
            assert found[i, j] == pytest.approx(whole, rel=1e-8)
    assert (found == found.T).all()


@pytest.mark.parametrize("std", [0.02, 0.1, 0.25])
def test_the_average_is_the_integral_of_its_profile(std: float) -> None:
    """Each step's weights count what the profile has over the step's images, also where steps are left out."""
    gamma, at = gamma_of(std), [0, 64, 128, 192, 320, 384, 640, 704]  # 256, 448 to 576: skipped
    path = Wandering(704)
    ema = PowerEMA(path, std)
    for images in at[1:]:
        ema.update(path.goes(images), images)
    expected = sum(
        (now ** (gamma + 1) - before ** (gamma + 1)) / at[-1] ** (gamma + 1) * path.goes(now).weight.item()
        for before, now in itertools.pairwise(at)
    )
    assert float(ema.model.get_parameter("weight")) == pytest.approx(expected, rel=1e-13)
    assert ema.profile == Profile(std, 704)


def test_the_average_of_a_straight_path_is_the_profile_s_mean_time() -> None:
    """Of theta(t) = t: T (gamma + 1) / (gamma + 2), up to half a step."""
    path, ema = Wandering(1), None
    for std in (0.05, 0.2):
        ema = PowerEMA(path, std)
        for images in range(1, 20_001):
            with torch.no_grad():
                path.weight.fill_(images - 0.5)
            ema.update(path, images)
        gamma = gamma_of(std)
        mean = 20_000 * (gamma + 1) / (gamma + 2)
        assert float(ema.model.get_parameter("weight")) == pytest.approx(mean, rel=1e-7)


def test_a_small_step_keeps_its_digits() -> None:
    """1 - (1 - 1e-9)^(gamma + 1) to 15 digits, by its series."""
    gamma, d = gamma_of(0.1), 1e-9
    series = (gamma + 1) * d - (gamma + 1) * gamma / 2 * d**2
    assert weight_of_new(gamma, 10**9 - 1, 10**9) == pytest.approx(series, rel=1e-14)
    assert weight_of_new(gamma, 0, 64) == 1.0


def tracked(stds: tuple[float, ...], every: int, steps: int = 4000) -> tuple[list[Profile], list[float], list[float]]:
    """The snapshots' profiles and values of a path's averages (STDS), and what averages of ``stds`` are at its end."""
    path = Wandering(steps)
    kept, wanted = [PowerEMA(path, std) for std in STDS], [PowerEMA(path, std) for std in stds]
    profiles, values = [], []
    for images in range(1, steps + 1):
        path.goes(images)
        for ema in kept + wanted:
            ema.update(path, images)
        if images % every == 0:
            profiles += [ema.profile for ema in kept]
            values += [float(ema.model.get_parameter("weight")) for ema in kept]
    return profiles, values, [float(ema.model.get_parameter("weight")) for ema in wanted]


def test_a_length_that_was_tracked_comes_back() -> None:
    profiles, values, directly = tracked(STDS, every=50)
    for std, value in zip(STDS, directly, strict=True):
        mixture = nearest(profiles, Profile(std, 4000))
        again = sum(x * v for x, v in zip(mixture.coefficients, values, strict=True))
        assert again == pytest.approx(value, rel=1e-7)
        assert mixture.error < 1e-6


def test_another_length_comes_close_and_closer_with_more_snapshots() -> None:
    """Lengths between and beside the tracked ones, against averages of that length tracked from the start."""
    stds = (0.04, 0.07, 0.12, 0.15)
    profiles, values, directly = tracked(stds, every=50)
    errors = []
    for thinned in (16, 4, 1):  # 5, 20 and 80 times at which snapshots were kept
        some = [i for i, one in enumerate(profiles) if one.end % (50 * thinned) == 0]
        mixtures = [nearest([profiles[i] for i in some], Profile(std, 4000)) for std in stds]
        again = [sum(x * values[i] for x, i in zip(m.coefficients, some, strict=True)) for m in mixtures]
        errors.append(max(abs(a - d) for a, d in zip(again, directly, strict=True)))
        assert all(sum(m.coefficients) == pytest.approx(1, rel=1e-12) for m in mixtures)
    assert errors[0] > 10 * errors[1] > 100 * errors[2]
    assert errors[2] < 2e-4  # of weights that go from 1 to 0


def test_the_error_is_the_distance_of_the_profiles() -> None:
    stored, wanted = [Profile(0.05, 500), Profile(0.1, 1000)], Profile(0.08, 1000)
    mixture = nearest(stored, wanted)

    def away(t: float) -> float:
        mixed = sum(x * density(p, t) for x, p in zip(mixture.coefficients, stored, strict=True))
        return (mixed - density(wanted, t)) ** 2

    distance = integrate.quad(away, 0, 500)[0] + integrate.quad(away, 500, 1000)[0]
    size = integrate.quad(lambda t: density(wanted, t) ** 2, 0, 1000)[0]
    assert mixture.error == pytest.approx(math.sqrt(distance / size), rel=1e-6)
    with pytest.raises(ValueError, match="no stored average"):
        nearest([], wanted)
