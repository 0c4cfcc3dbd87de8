"""The density along the probability flow: the ODE whose solutions have the diffusion's marginals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.func import jvp
from torchdiffeq import odeint

from langevin.diffusion.denoiser import Denoises
from langevin.diffusion.processes import IsotropicProcess, Scores
from langevin.randomness import Noise

Field = Callable[[Tensor], Tensor]


class Divergence(Protocol):
    def __call__(self, field: Field, x: Tensor) -> tuple[Tensor, Tensor]:
        """field(x) and its divergence at x: (B, ...) and (B,) float64. The field treats each sample by itself."""
        ...


@dataclass(frozen=True)
class Exact:
    """The trace of the Jacobian, by as many backward passes as a sample has dimensions."""

    def __call__(self, field: Field, x: Tensor) -> tuple[Tensor, Tensor]:
        x, v = _watched(field, x)
        rows = v.flatten(1)
        trace = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for place in range(rows.shape[1]):
            (slope,) = torch.autograd.grad(rows[:, place].sum(), x, retain_graph=True)
            trace += slope.flatten(1)[:, place]
        return v.detach(), trace


@dataclass(frozen=True)
class Hutchinson:
    """The mean over probes of p . (Jacobian p), p of independent signs: unbiased. Skilling 1989; Hutchinson 1990.

    A sample meets the same probes at every time (Grathwohl et al. 2019, section 3.1), so that what is integrated is smooth.
    """

    noise: Noise
    probes: int = 1

    def __call__(self, field: Field, x: Tensor) -> tuple[Tensor, Tensor]:
        x, v = _watched(field, x)
        trace = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for probe in range(self.probes):
            signs = torch.where(self.noise.uniform(f"probe/{probe}", x) < 0.5, -1.0, 1.0).to(x)
            (product,) = torch.autograd.grad((v * signs).sum(), x, retain_graph=True)
            trace += (product * signs).double().flatten(1).sum(1) / self.probes
        return v.detach(), trace


def log_prob_ode(
    model: Denoises | Scores,
    x: Tensor,
    cond: Any = None,
    divergence: Divergence = Exact(),
    t_min: float = 1e-5,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    grid: Tensor | None = None,
) -> Tensor:
    """log p(x) for x a state at t_min, carried to t = 1 by the probability flow: (B,) float64 nats.

    log p = log prior(x_1) + the integral over t of the flow's divergence. Song et al. 2021, eq. 39. The model sees states of
    x's dtype, the integral itself is float64. x: (B, ...), for damped processes (B, 2, ...).

    By Dormand-Prince's method to the tolerances rtol and atol, with steps that serve the whole batch: a sample's value moves with
    its neighbours by no more than those. Or by a Runge-Kutta method of order 4 on ``grid``: (n + 1,) rising times
    from t_min to 1 (t_min is then the grid's first), which leaves a sample's value to itself.

    ValueError where the flow is not finite at one of its ends.
    """
    times = torch.tensor([t_min, 1.0], dtype=torch.float64) if grid is None else grid.double()
    times = times.to(x.device)

    def slope(t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():  # also where the caller wants no gradient of the result
            v, trace = divergence(lambda place: velocity(model, place, t, cond), state[0].to(x.dtype))
        return v.double(), trace

    _check_ends(model, x, times, cond)
    start = (x.detach().double(), torch.zeros(len(x), dtype=torch.float64, device=x.device))
    if grid is None:
        # step_t: without it the last step would look at the model beyond t = 1
        options: dict[str, Any] = {"step_t": times[-1:]}
        states, integrals = odeint(slope, start, times, rtol=rtol, atol=atol, method="dopri5", options=options)
    else:
        states, integrals = odeint(slope, start, times, method="rk4")
    process = model.process if isinstance(model, Scores) else IsotropicProcess(model.schedule)
    gained: Tensor = integrals[-1]
    return process.prior_log_prob(states[-1]) + gained


def velocity(model: Denoises | Scores, x: Tensor, t: Tensor, cond: Any = None) -> Tensor:
    """dx/dt = f - g^2 score / 2 where noise drives, f elsewhere: a state. Song et al. 2021, eq. 13. t: ().

    Of a denoiser it is alpha' D + sigma' eps, the same without a division by alpha: it stays finite at zero terminal SNR.
    """
    if isinstance(model, Scores):
        process = model.process
        push = (0.5 * process.diffusion_sq(t)).to(x) * model.score(x, t, cond)
        return process.drift(x, t) - process.drive(push)
    schedule = model.schedule
    rates: tuple[Tensor, Tensor] = jvp(lambda u: (schedule(u).alpha, schedule(u).sigma), (t,), (torch.ones_like(t),))[1]
    prediction = model(x, t, cond)
    return rates[0].to(x) * prediction.x0 + rates[1].to(x) * prediction.eps(x, schedule(t))


def _check_ends(model: Denoises | Scores, x: Tensor, times: Tensor, cond: Any) -> None:
    for t in (times[0], times[-1]):
        with torch.no_grad():
            finite = bool(torch.isfinite(velocity(model, x, t, cond)).all())
        if not finite:
            raise ValueError(
                f"the probability flow of {type(model).__name__} is not finite at t = {float(t):g}: "
                "it needs t_min > 0, and at t = 1 signal that is not zero or a network that predicts data or velocity"
            )


def _watched(field: Field, x: Tensor) -> tuple[Tensor, Tensor]:
    """x as a leaf of autograd, and field(x)."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        return x, field(x)
