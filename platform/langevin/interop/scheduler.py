"""diffusers' scheduler configuration <-> a schedule and what the network predicts.

Only what belongs to the trained model is read: the chain's betas and the prediction type. How a scheduler samples
(spacing, clipping, thresholds) is a sampler's matter here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion import parameterizations
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.parameterizations import Parameterization
from langevin.diffusion.schedules import Tabulated, cosine_betas
from langevin.errors import ConfigError

Config = Mapping[str, Any]

CLASS = "DDPMScheduler"
CLASSES = (CLASS, "DDIMScheduler", "PNDMScheduler", "DPMSolverMultistepScheduler")  # one set of fields and defaults
PREDICTIONS: Mapping[str, type] = {
    "epsilon": parameterizations.Noise,
    "sample": parameterizations.Data,
    "v_prediction": parameterizations.Velocity,
}


def _linear(steps: int, start: float, end: float) -> Tensor:
    return torch.linspace(start, end, steps, dtype=torch.float64)


def _scaled_linear(steps: int, start: float, end: float) -> Tensor:
    return torch.linspace(math.sqrt(start), math.sqrt(end), steps, dtype=torch.float64) ** 2


def _cosine(steps: int, start: float, end: float) -> Tensor:
    return cosine_betas(steps)


BETAS: Mapping[str, Callable[[int, float, float], Tensor]] = {
    "linear": _linear,
    "scaled_linear": _scaled_linear,
    "squaredcos_cap_v2": _cosine,
}


@dataclass(frozen=True)
class Drawing:
    """How a pipeline is to draw. spacing: "trailing", "leading" or "linspace", the grid of fewer steps than the chain's;
    threshold: how the expected data are kept in [-1, 1], "static", "dynamic" or "none"."""

    spacing: str = "trailing"
    threshold: str = "static"

    def fields(self) -> dict[str, Any]:
        return {
            "timestep_spacing": self.spacing,
            "steps_offset": 0,
            "clip_sample": self.threshold == "static",
            "clip_sample_range": 1.0,
            "thresholding": self.threshold == "dynamic",
            "dynamic_thresholding_ratio": 0.995,
            "sample_max_value": 1e6,  # of the threshold: none
        }


AS_OURS = Drawing()


def schedule_from(config: Config) -> Tabulated:
    """The chain of a scheduler's configuration. ConfigError names the field that cannot be followed."""
    _known(config, "_class_name", CLASSES, CLASS)
    if config.get("rescale_betas_zero_snr"):
        raise ConfigError("a chain here ends with some signal", field="rescale_betas_zero_snr", value=True,
                          mend="load a model trained without it")  # fmt: skip
    if (trained := config.get("trained_betas")) is not None:
        return Tabulated(torch.tensor(trained, dtype=torch.float64))
    name = _known(config, "beta_schedule", tuple(BETAS), "linear")
    start, end = config.get("beta_start", 1e-4), config.get("beta_end", 0.02)
    return Tabulated(BETAS[name](config.get("num_train_timesteps", 1000), start, end))


def parameterization_from(config: Config) -> Parameterization:
    """What the network predicts. ConfigError for a prediction type that there is not."""
    made: Parameterization = PREDICTIONS[_known(config, "prediction_type", tuple(PREDICTIONS), "epsilon")]()
    return made


def to_config(denoiser: Denoiser, drawing: Drawing = AS_OURS, learned_variance: bool = False) -> dict[str, Any]:
    """DDPMScheduler's configuration of a denoiser on a chain: DDPMPipeline samples with it ancestrally, DDIMPipeline makes
    a DDIMScheduler of it.

    learned_variance: the network has a second head (improved DDPM). ConfigError for what no scheduler can say.
    """
    schedule, parameterization = denoiser.schedule, denoiser.parameterization
    if not isinstance(schedule, Tabulated):
        raise ConfigError("no scheduler of diffusers' pipelines follows it", field="schedule",
                          value=type(schedule).__name__, mend="export a model trained on a chain of steps")  # fmt: skip
    predicts = [name for name, kind in PREDICTIONS.items() if type(parameterization) is kind]
    if not predicts:
        raise ConfigError("diffusers' schedulers know no such prediction", field="prediction",
                          value=type(parameterization).__name__,
                          mend="export a model that predicts noise, data or velocity")  # fmt: skip
    return {
        "_class_name": CLASS,
        "num_train_timesteps": schedule.steps,
        **_betas(schedule),
        "prediction_type": predicts[0],
        "variance_type": "learned_range" if learned_variance else "fixed_small",
        **drawing.fields(),
        "rescale_betas_zero_snr": False,
    }


def _betas(schedule: Tabulated) -> dict[str, Any]:
    """The chain's betas: by the name and the ends that give them, else one by one."""
    nodes = torch.arange(schedule.steps + 1, dtype=torch.float64) / schedule.steps
    betas = -torch.expm1(2 * schedule(nodes).alpha.log().diff())
    start, end = float(betas[0]), float(betas[-1])
    for name, made in BETAS.items():
        if torch.allclose(made(schedule.steps, start, end), betas, rtol=1e-8, atol=0):
            return {"beta_schedule": name, "beta_start": start, "beta_end": end, "trained_betas": None}
    return {"beta_schedule": "linear", "trained_betas": betas.tolist()}


def _known(config: Config, field: str, known: tuple[str, ...], default: str) -> str:
    value = config.get(field, default)
    if value not in known:
        raise ConfigError("cannot be loaded", field=field, value=value, mend=f"it can be {', '.join(known)}")
    return str(value)
