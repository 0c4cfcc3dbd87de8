"""A scheduler's configuration is the same chain and the same prediction in both libraries."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.parameterizations import Data, Karras, Noise, Parameterization, Velocity
from langevin.diffusion.schedules import (
    LinearVP,
    Schedule,
    Tabulated,
    cosine_betas,
    linear_betas,
    scaled_linear_betas,
)
from langevin.errors import ConfigError
from langevin.interop.scheduler import parameterization_from, schedule_from, to_config

from .peer import DDIMScheduler, DDPMScheduler


def alpha_bar(schedule: Schedule, steps: int) -> Tensor:
    """Of the states i = 1 .. T."""
    alpha: Tensor = schedule(torch.arange(1, steps + 1, dtype=torch.float64) / steps).alpha
    return alpha**2


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"beta_schedule": "linear", "num_train_timesteps": 300},
        {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
        {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 500},
        {"trained_betas": [0.01, 0.2, 0.3], "num_train_timesteps": 3},
    ],
)
@pytest.mark.parametrize("kind", [DDPMScheduler, DDIMScheduler])
def test_their_chain_is_ours(config: dict[str, Any], kind: Any) -> None:
    theirs = kind(**config)
    ours = schedule_from(dict(theirs.config) | {"_class_name": kind.__name__})
    expected = torch.cumprod(1 - theirs.betas.double(), 0)
    assert ours.steps == len(expected)
    torch.testing.assert_close(alpha_bar(ours, ours.steps), expected, rtol=1e-4, atol=0)  # its betas are float32


@pytest.mark.parametrize(
    ("betas", "named"),
    [
        (linear_betas(1000), "linear"),
        (linear_betas(250), "linear"),
        (scaled_linear_betas(1000), "scaled_linear"),
        (cosine_betas(1000), "squaredcos_cap_v2"),
        (torch.tensor([0.1, 0.3, 0.2], dtype=torch.float64), None),
    ],
)
def test_our_chain_is_theirs_by_name_or_in_full(betas: Tensor, named: str | None) -> None:
    config = to_config(Denoiser(nn.Identity(), Tabulated(betas), Noise()))
    assert (config["trained_betas"] is None) == (named is not None)
    assert named in (None, config["beta_schedule"])
    torch.testing.assert_close(DDPMScheduler.from_config(config).betas, betas.float(), rtol=1e-5, atol=1e-9)
    again = alpha_bar(schedule_from(config), len(betas))
    torch.testing.assert_close(again, torch.cumprod(1 - betas, 0), rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("name", "parameterization"), [("epsilon", Noise()), ("sample", Data()), ("v_prediction", Velocity())]
)
def test_what_the_network_predicts(name: str, parameterization: Parameterization) -> None:
    assert parameterization_from({"prediction_type": name}) == parameterization
    denoiser = Denoiser(nn.Identity(), Tabulated(linear_betas(1000)), parameterization)
    assert to_config(denoiser)["prediction_type"] == name


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"_class_name": "KarrasVeScheduler"}, "_class_name = 'KarrasVeScheduler'"),
        ({"beta_schedule": "laplace"}, "beta_schedule = 'laplace'"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr = True"),
        ({"prediction_type": "flow"}, "prediction_type = 'flow'"),
    ],
)
def test_a_configuration_that_cannot_be_followed(config: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        schedule_from(config), parameterization_from(config)
    assert str(caught.value).startswith(named)
    assert "; " in str(caught.value)


@pytest.mark.parametrize(
    ("schedule", "parameterization", "named"),
    [
        (LinearVP(), Noise(), "schedule = 'LinearVP'"),
        (Tabulated(linear_betas(1000)), Karras(), "prediction = 'Karras'"),
    ],
)
def test_what_no_scheduler_can_say(schedule: Schedule, parameterization: Parameterization, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        to_config(Denoiser(nn.Identity(), schedule, parameterization))
    assert str(caught.value).startswith(named)
    assert "; " in str(caught.value)
