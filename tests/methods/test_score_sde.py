"""Score SDE: a schedule is the SDE, and training looks at all of its times."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from langevin.diffusion.schedules import CosineVP, GeometricVE, LinearVP, Schedule, SubVP
from langevin.methods.bounding import Chain, Continuous, Flow
from langevin.protocols import Batch
from langevin.randomness import Keys

from .examples import SHAPE, made, recording

SCHEDULES: list[tuple[str, dict[str, Any], Schedule]] = [
    ("score_sde", {}, LinearVP(0.1, 20.0)),
    ("score_sde", {"schedule": {"name": "vp", "beta_min": 0.2, "beta_max": 15.0}}, LinearVP(0.2, 15.0)),
    ("score_sde", {"schedule": {"name": "cosine"}}, CosineVP()),
    ("score_sde subvp", {}, SubVP(0.1, 20.0)),
    ("score_sde ve", {}, GeometricVE(0.01, 50.0)),
]


def flat(count: int) -> Batch:
    return Batch(torch.zeros(count, *SHAPE), None, torch.arange(count), tuple(map(str, range(count))))


@pytest.mark.parametrize(("name", "changes", "schedule"), SCHEDULES)
@pytest.mark.parametrize("weighting", ["simple", "likelihood"])
def test_noise_levels_and_weights_are_the_schedules(
    name: str, changes: dict[str, Any], schedule: Schedule, weighting: str
) -> None:
    """lambda = sigma^2 is the noise error as it is, lambda = g^2 weighs it by g^2 / sigma^2 = -d log_snr / dt."""
    method = made(name, {**changes, "weighting": weighting})
    recorder = recording(method)
    loss = method.loss(flat(400), Keys.range(5, 0, 400)).total.double()
    x, t, _ = recorder.told[0]
    t = t.double()
    assert 1e-5 <= float(t.min()) < 0.01 < 0.99 < float(t.max()) <= 1
    eps = x.double() / schedule(t).sigma[:, None, None, None]
    assert float(eps.var()) == pytest.approx(1, abs=4 * (2 / eps.numel()) ** 0.5)
    weight = 1.0 if weighting == "simple" else -schedule.log_snr_rate(t)
    seen = t > 1e-2  # below, the time that a float32 network is told is not the time itself
    expected = weight * eps.square().flatten(1).mean(1)
    torch.testing.assert_close(loss[seen], expected[seen], rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("times", ["stratified", "uniform", "antithetic"])
def test_times_are_uniform_down_to_t_min(times: str) -> None:
    method = made("score_sde", {"times": times, "t_min": 0.2})
    recorder = recording(method)
    method.loss(flat(1024), Keys.range(5, 0, 1024))
    t = recorder.told[0][1]
    assert float(t.min()) >= 0.2
    counts = torch.histc(t, 8, 0.2, 1.0)
    assert float((counts - 128).abs().max()) <= 4.5 * (128 * 7 / 8) ** 0.5


def test_uniform_log_snr_times() -> None:
    method = made("score_sde ve", {"times": "uniform_log_snr"})
    recorder = recording(method)
    method.loss(flat(1000), Keys.range(5, 0, 1000))
    log_snr = method.denoiser.schedule(recorder.told[0][1].double()).log_snr
    counts = torch.histc(log_snr, 10, float(log_snr.min()), float(log_snr.max()))
    assert int((counts - 100).abs().max()) <= 3


def test_the_flow_is_followed_from_t_min() -> None:
    method = made("score_sde", {"t_min": 1e-3}, bound={"kind": "flow", "draws": 2, "probes": 3, "tolerance": 1e-3})
    assert method.bounding == Flow(17, 2, 3, 1e-3, 1e-3)


def test_the_continuous_bound_ends_where_the_log_snr_is_finite() -> None:
    assert made("score_sde", bound={"kind": "continuous", "last": 0.01}).bounding == Continuous(17, 50, 0.01)
    assert made("score_sde ve", bound={"kind": "continuous"}).bounding == Continuous(17, 50, 0.0)
    assert isinstance(made("score_sde").bounding, Chain)
