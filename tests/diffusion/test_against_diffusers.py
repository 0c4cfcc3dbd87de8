"""Our samplers and diffusers' schedulers, step by step along whole walks, from the same network and the same noise.

Conventions: diffusers' step i is our t = (i + 1) / T, and t = 0 is the data; its Euler, Heun and EDM schedulers carry
x / alpha. Every state is compared to 1e-5 of its size, in float32.

diffusers keeps its chain in float32, and a float32 product of T factors is off by 1e-5 at the noisy end already, where
noise predictions are divided by alpha = 0.006. So its schedulers are given the chain in float64; that the two libraries'
betas are the same is tested where configurations are read. What they do with the chain is theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from langevin.diffusion import grids, parameterizations
from langevin.diffusion.denoiser import Clamped, Denoiser, Denoises, DynamicallyClamped
from langevin.diffusion.parameterizations import Karras
from langevin.diffusion.samplers import DDIM, Ancestral, DPMSolver, Heun, Sampler, walk
from langevin.diffusion.schedules import LinearVE, Tabulated, cosine_betas, linear_betas
from langevin.diffusion.variance import Learned, Lower, ReverseVariance, Upper
from langevin.evaluation.compatibility import declare_missing_operators
from langevin.randomness import Keys, Noise

declare_missing_operators()  # diffusers imports torchvision
from diffusers import schedulers  # noqa: E402

PREDICTIONS = {
    "epsilon": parameterizations.Noise(),
    "sample": parameterizations.Data(),
    "v_prediction": parameterizations.Velocity(),
}
CHAINS = {"linear": linear_betas, "squaredcos_cap_v2": cosine_betas}
DYNAMIC = {"thresholding": True, "sample_max_value": 1e9, "dynamic_thresholding_ratio": 0.9}
BATCH, SHAPE = 3, (2, 4, 4)
START = Noise(Keys.range(5, 0, BATCH)).normal("start", torch.empty(BATCH, *SHAPE))

ALL = pytest.mark.parametrize("predicts", PREDICTIONS)
BOTH = pytest.mark.parametrize("chain", CHAINS)


class Random(nn.Module):
    """A random network of an image and a time, heads x the image's channels out; all its values lie in (-1.5, 1.5)."""

    def __init__(self, heads: int = 1) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(heads)
        count = SHAPE[0]
        self.first = nn.Parameter(torch.randn(8, count, 3, 3, generator=generator) / 4)
        self.second = nn.Parameter(torch.randn(count * heads, 8, 3, 3, generator=generator) / 4)

    @torch.no_grad()
    def forward(self, x: Tensor, noise: Tensor, cond: Any = None) -> Tensor:
        hidden = torch.nn.functional.conv2d(torch.tanh(x), self.first, padding=1)
        hidden = torch.sin(hidden + 3 * noise.reshape(-1, 1, 1, 1))
        return 1.5 * torch.tanh(torch.nn.functional.conv2d(hidden, self.second, padding=1))


@dataclass(frozen=True)
class Steps(Noise):
    """Our noise, and a note of each step's for the other library."""

    def of(self, step: int, stream: str) -> Tensor:
        return self.within(f"step/{step}").normal(stream, START)


NOISE = Steps(Keys.range(11, 0, BATCH))


def chained(kind: str, chain: str, predicts: str, steps: int = 1000, **options: Any) -> Any:
    """diffusers' scheduler of a class on the chain, in float64."""
    betas = CHAINS[chain](steps)
    made: Any = getattr(schedulers, kind)(
        num_train_timesteps=steps, trained_betas=betas.tolist(), prediction_type=predicts, **options
    )
    made.betas, made.alphas = betas, 1 - betas
    made.alphas_cumprod = torch.cumprod(1 - betas, 0)
    return made


def ours(chain: str, predicts: str, network: nn.Module, steps: int = 1000) -> Denoiser:
    return Denoiser(network, Tabulated(CHAINS[chain](steps)), PREDICTIONS[predicts])


def told(network: nn.Module, x: Tensor, t: float) -> Tensor:
    """The network's output, called as the denoiser calls it."""
    output: Tensor = network(x, torch.full((len(x),), t, dtype=torch.float64).float())
    return output


def states(model: Denoises, sampler: Sampler, grid: Tensor) -> list[Tensor]:
    return list(walk(model, sampler, START, grid, None, NOISE))


def same(found: list[Tensor], expected: list[Tensor]) -> None:
    """Every state, relative to its size."""
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert bool(torch.isfinite(b).all())
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5 * max(1.0, float(b.abs().max())))


def times(scheduler: Any, steps: int) -> Tensor:
    """Our grid of the scheduler's steps."""
    nodes = (scheduler.timesteps.double() + 1) / steps
    return torch.cat([nodes, torch.zeros(1, dtype=torch.float64)])


@pytest.fixture
def numbers(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Tensor], None]:
    """Makes a scheduler's module draw a given tensor."""

    def give(module: str, tensor: Tensor) -> None:
        monkeypatch.setattr(f"diffusers.schedulers.{module}.randn_tensor", lambda *args, **options: tensor)

    return give


VARIANCES: dict[str, Callable[[Denoiser, Tensor], ReverseVariance]] = {
    "fixed_small": lambda model, grid: Lower(),
    "fixed_large": lambda model, grid: Upper(),
    "learned_range": lambda model, grid: Learned.of(model.schedule, grid),
}
SPACINGS = {"leading": grids.strided, "trailing": grids.trailing, "linspace": grids.spread}


@ALL
@BOTH
@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("clipped", [False, True])
def test_ancestral_sampling_is_ddpms(
    predicts: str, chain: str, variance: str, clipped: bool, numbers: Callable[[str, Tensor], None]
) -> None:
    """DDPMScheduler over a whole chain of 30 steps, with and without clip_sample."""
    steps = 30
    theirs = chained("DDPMScheduler", chain, predicts, steps, variance_type=variance, clip_sample=clipped)
    network = Random(2 if variance == "learned_range" else 1)
    model, grid = ours(chain, predicts, network, steps), grids.trailing(steps, steps)
    sampler = Ancestral(VARIANCES[variance](model, grid))
    expected = [START]
    for number, i in enumerate(reversed(range(steps))):
        numbers("scheduling_ddpm", NOISE.of(number, "ancestral"))
        expected.append(theirs.step(told(network, expected[-1], (i + 1) / steps), i, expected[-1]).prev_sample)
    same(states(Clamped(model) if clipped else model, sampler, grid), expected)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_fewer_steps_of_ancestral_sampling_are_ddpms(
    spacing: str, variance: str, numbers: Callable[[str, Tensor], None]
) -> None:
    """50 of 1000, by each of the three grids.

    DDPMScheduler leaves noise out of the step from i = 0 alone. A trailing grid's last step is from i = 19, and where the
    variance is fixed_large it is added to the data: that last state has no counterpart here.
    """
    theirs = chained("DDPMScheduler", "linear", "epsilon", variance_type=variance, timestep_spacing=spacing)
    theirs.set_timesteps(50)
    grid, network = SPACINGS[spacing](50, 1000), Random()
    torch.testing.assert_close(grid, times(theirs, 1000))
    model = Clamped(ours("linear", "epsilon", network))
    expected = [START]
    for number, i in enumerate(theirs.timesteps):
        numbers("scheduling_ddpm", NOISE.of(number, "ancestral"))
        expected.append(theirs.step(told(network, expected[-1], (int(i) + 1) / 1000), i, expected[-1]).prev_sample)
    found = states(model, Ancestral(VARIANCES[variance](model.base, grid)), grid)
    noisy = (spacing, variance) == ("trailing", "fixed_large")
    same(found[:-1] if noisy else found, expected[:-1] if noisy else expected)


@ALL
def test_the_dynamic_threshold_is_ddpms(predicts: str, numbers: Callable[[str, Tensor], None]) -> None:
    """thresholding, with a sample_max_value that leaves the threshold free: at its default of 1 it is clip_sample."""
    theirs = chained("DDPMScheduler", "squaredcos_cap_v2", predicts, **DYNAMIC)
    theirs.set_timesteps(20)
    network, grid = Random(), grids.strided(20, 1000)
    expected = [START]
    for number, i in enumerate(theirs.timesteps):
        numbers("scheduling_ddpm", NOISE.of(number, "ancestral"))
        expected.append(theirs.step(told(network, expected[-1], (int(i) + 1) / 1000), i, expected[-1]).prev_sample)
    model = DynamicallyClamped(ours("squaredcos_cap_v2", predicts, network), 0.9)
    same(states(model, Ancestral(), grid), expected)


@ALL
@BOTH
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("clipped", [False, True])
def test_ddim_is_ddims(predicts: str, chain: str, eta: float, clipped: bool) -> None:
    """DDIMScheduler on the leading grid. Where D is clipped its noise must follow, which is use_clipped_model_output:
    by default diffusers joins a clipped D and the noise of another D."""
    theirs = chained("DDIMScheduler", chain, predicts, clip_sample=clipped)
    theirs.set_timesteps(20)
    network, grid = Random(), grids.strided(20, 1000)
    torch.testing.assert_close(grid, times(theirs, 1000))
    expected = [START]
    for number, i in enumerate(theirs.timesteps):
        output = told(network, expected[-1], (int(i) + 1) / 1000)
        z = NOISE.of(number, "ddim") if eta else None
        step = theirs.step(output, i, expected[-1], eta, use_clipped_model_output=clipped, variance_noise=z)
        expected.append(step.prev_sample)
    model: Denoises = ours(chain, predicts, network)
    same(states(Clamped(model) if clipped else model, DDIM(eta), grid), expected)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("spacing", ["trailing", "linspace"])
def test_ddim_on_the_other_grids(spacing: str, eta: float) -> None:
    """DDIMScheduler always steps T // n down, wherever its next step is. With "trailing" that is the next step, where n
    divides T. With "linspace" it is not: from 999 of 1000 in 40 steps it goes to 974 and calls it 973. So no walk along a
    grid matches it, and it is compared with our steps from its times to where it goes."""
    theirs = chained("DDIMScheduler", "linear", "epsilon", timestep_spacing=spacing)
    theirs.set_timesteps(40)
    network, grid = Random(), SPACINGS[spacing](40, 1000)
    torch.testing.assert_close(grid, times(theirs, 1000))
    model = Clamped(ours("linear", "epsilon", network))
    expected, found = [START], [START]
    for number, i in enumerate(theirs.timesteps):
        output = told(network, expected[-1], (int(i) + 1) / 1000)
        z = NOISE.of(number, "ddim") if eta else None
        step = theirs.step(output, i, expected[-1], eta, use_clipped_model_output=True, variance_noise=z)
        expected.append(step.prev_sample)
        s = (grid[number] - 25 / 1000).clamp(min=0)
        here = NOISE.within(f"step/{number}")
        found.append(DDIM(eta)(model, found[-1], grid[number], s, None, here))
    same(found, expected)
    if spacing == "trailing":
        same(states(model, DDIM(eta), grid), expected)


def multistep(theirs: Any, network: nn.Module) -> list[Tensor]:
    """A walk of DPMSolverMultistepScheduler."""
    expected = [START]
    for number, i in enumerate(theirs.timesteps):
        output = told(network, expected[-1], (int(i) + 1) / 1000)
        expected.append(theirs.step(output, i, expected[-1], variance_noise=NOISE.of(number, "dpm")).prev_sample)
    return expected


@ALL
@BOTH
@pytest.mark.parametrize(("algorithm", "eta"), [("dpmsolver++", 0.0), ("sde-dpmsolver++", 1.0)])
@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
def test_dpm_solver_is_multistep_dpm_solver(
    predicts: str, chain: str, algorithm: str, eta: float, spacing: str
) -> None:
    """DPMSolverMultistepScheduler of order 2 by its midpoint form, 20 steps; its "linspace" and "leading" grids have a
    denominator of n + 1, unlike its other schedulers', so its own times are walked."""
    theirs = chained("DPMSolverMultistepScheduler", chain, predicts, algorithm_type=algorithm, timestep_spacing=spacing)
    theirs.set_timesteps(20)
    network = Random()
    found = states(ours(chain, predicts, network), DPMSolver(eta), times(theirs, 1000))
    same(found, multistep(theirs, network))


def test_dpm_solver_with_a_dynamic_threshold() -> None:
    theirs = chained("DPMSolverMultistepScheduler", "linear", "epsilon", **DYNAMIC)
    theirs.set_timesteps(12)
    network = Random()
    model = DynamicallyClamped(ours("linear", "epsilon", network), 0.9)
    same(states(model, DPMSolver(), times(theirs, 1000)), multistep(theirs, network))


def in_sigma(scheduler: Any, schedule: Tabulated) -> tuple[list[float], Tensor]:
    """The scheduler's sigmas, float32, and our times of them with 0 at the end."""
    sigmas = scheduler.sigmas.double()
    sigmas = torch.cat([sigmas[:1], sigmas[1:][sigmas.diff() != 0]])  # Heun has them twice
    t = schedule.time(-2 * sigmas[:-1].log())
    return sigmas.tolist(), torch.cat([t, torch.zeros(1, dtype=torch.float64)])


def scaled(found: list[Tensor], schedule: Tabulated, grid: Tensor) -> list[Tensor]:
    """x / alpha."""
    return [x / float(schedule(t).alpha) for x, t in zip(found, grid, strict=True)]


@ALL
@pytest.mark.parametrize(("chain", "karras"), [("linear", True), ("linear", False), ("squaredcos_cap_v2", True)])
@pytest.mark.parametrize("kind", ["EulerDiscreteScheduler", "HeunDiscreteScheduler"])
def test_euler_and_heun_in_sigma(predicts: str, chain: str, karras: bool, kind: str) -> None:
    """EulerDiscreteScheduler is DDIM(0), HeunDiscreteScheduler is Heun; on Karras' sigmas or on the chain's own.

    Between two nodes diffusers interpolates the step's number over log sigma and we the time over log alpha^2, so that a
    network would be told slightly different fractions: it is told our time of the same sigma here. The cosine chain's own
    sigmas are left out: the first step is from 20,000 to 10, which x / alpha in float32 does not survive (x of 20,000 is
    known to 1e-3, its slope at the step's end to 1e-4, and the step multiplies that by 10,000).
    """
    theirs = chained(kind, chain, predicts, use_karras_sigmas=karras, timestep_spacing="trailing")
    theirs.set_timesteps(15)
    network, schedule = Random(), Tabulated(CHAINS[chain](1000))
    sigmas, grid = in_sigma(theirs, schedule)
    if not karras:
        torch.testing.assert_close(grid, grids.trailing(15, 1000), rtol=1e-5, atol=1e-6)
    places = dict(zip(sigmas, grid.tolist(), strict=True))
    expected = [START / float(schedule(grid[0]).alpha)]
    x = expected[0]
    for step, i in enumerate(theirs.timesteps):
        sigma = float(theirs.sigmas[step])
        output = told(network, theirs.scale_model_input(x, i), places[sigma])
        x = theirs.step(output, i, x).prev_sample
        halfway = kind == "HeunDiscreteScheduler" and not theirs.state_in_first_order
        if not halfway or step == len(theirs.timesteps) - 1:  # the step to the data is half of one
            expected.append(x)
    sampler: Sampler = DDIM() if kind == "EulerDiscreteScheduler" else Heun()
    same(scaled(states(ours(chain, predicts, network), sampler, grid), schedule, grid), expected)


@pytest.mark.parametrize(
    ("kind", "options", "sampler"),
    [
        ("EDMEulerScheduler", {}, DDIM()),
        ("EDMDPMSolverMultistepScheduler", {}, DPMSolver()),
        ("EDMDPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}, DPMSolver(1.0)),
    ],
    ids=["EDMEuler", "EDMDPMSolver", "EDMDPMSolver SDE"],
)
def test_edms_schedulers(
    kind: str, options: dict[str, str], sampler: Sampler, numbers: Callable[[str, Tensor], None]
) -> None:
    """EDMEulerScheduler is DDIM(0) and EDMDPMSolverMultistepScheduler is DPMSolver on EDM's schedule with its network's
    coefficients; their step from sigma_min to 0 is what D makes of the walk's last state."""
    theirs: Any = getattr(schedulers, kind)(**options)
    theirs.set_timesteps(18)
    network, schedule = Random(), LinearVE()
    grid = grids.karras(18, schedule)
    sigmas = theirs.sigmas.double()
    torch.testing.assert_close(schedule(grid).sigma, sigmas[:-1], rtol=1e-6, atol=0)
    model = Denoiser(network, schedule, Karras())
    x = 80 * START
    expected = [x]
    for step, i in enumerate(theirs.timesteps):
        numbers("scheduling_edm_dpmsolver_multistep", NOISE.of(step, "dpm"))
        output = told(network, theirs.scale_model_input(x, i), float(sigmas[step].log() / 4))
        x = theirs.step(output, i, x).prev_sample
        expected.append(x)
    found = list(walk(model, sampler, 80 * START, grid, None, NOISE))
    same([*found, model(found[-1], grid[-1]).x0], expected)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_the_three_grids_are_diffusers(spacing: str) -> None:
    for steps in (1, 3, 10, 16, 50, 300, 999, 1000):
        if (spacing, steps) == ("linspace", 1):  # numpy's linspace of one number is its first, here the data's end
            continue
        theirs = schedulers.DDPMScheduler(timestep_spacing=spacing)
        theirs.set_timesteps(steps)
        assert torch.equal((SPACINGS[spacing](steps, 1000)[:-1] * 1000).round().long() - 1, theirs.timesteps)
