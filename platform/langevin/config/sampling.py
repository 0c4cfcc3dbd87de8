"""The recipe's ``sample`` and ``bound`` sections: how images are drawn, and how their likelihood is bounded."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from langevin.config.section import Count, Positive, Section, Share

SamplerName = Literal[
    "ddim", "ancestral", "heun", "dpm_solver", "euler_maruyama", "reverse_diffusion", "predictor_corrector",
    "annealed_langevin", "probability_flow", "sscs", "autoregressive", "stages", "own",
]  # fmt: skip
GridName = Literal["trailing", "strided", "spread", "uniform", "quadratic", "karras", "uniform_log_snr", "ladder"]

# What each sampler knows beside steps, grid, last, guidance and threshold.
KNOBS: dict[str, frozenset[str]] = {
    "ddim": frozenset({"eta"}),
    "ancestral": frozenset({"variance"}),
    "heun": frozenset({"churn", "churn_min", "churn_max", "churn_noise"}),
    "dpm_solver": frozenset({"eta"}),
    "euler_maruyama": frozenset(),
    "reverse_diffusion": frozenset(),
    "predictor_corrector": frozenset({"corrector_snr", "corrector_steps"}),
    "annealed_langevin": frozenset({"corrector_steps", "step_lr"}),
    "probability_flow": frozenset({"tolerance"}),
    "sscs": frozenset(),
    "autoregressive": frozenset(),
    "stages": frozenset({"levels"}),
    "own": frozenset(),
}
# What the way of a model that has just one is without.
SETTINGS = frozenset({"steps", "grid", "last", "guidance", "guidance_interval", "negative", "threshold"})
# What each kind of bound knows.
OF_BOUNDS: dict[str, frozenset[str]] = {
    "chain": frozenset({"steps", "calls", "last"}),
    "continuous": frozenset({"calls", "last"}),
    "flow": frozenset({"calls", "probes", "draws", "tolerance"}),
    "orders": frozenset({"calls"}),
    "latent": frozenset({"draws"}),
}


class Sample(Section):
    """How images are drawn. guidance: 1 is the conditional model, 0 the unconditional one.

    steps: of the grid; grid: None takes "trailing" on a chain, "karras" for EDM and for Heun's method on a chain, "uniform"
    elsewhere in continuous time, "ladder" for annealed Langevin dynamics; last: the time where a continuous grid ends, from
    where the denoiser makes one step to the data; sigma_min, sigma_max, rho: of the Karras grid. guidance_interval: sigma /
    alpha between which guidance acts; negative: the text that it leads away from, in the place of none. threshold: how D is
    kept in [-1, 1]. eta: of DDIM and DPM-Solver++ (0 the flow, 1 the SDE); variance: of the ancestral step; churn: Karras'
    S_churn, between churn_min and churn_max; corrector_steps: Langevin steps a level; step_lr: None takes
    technique 4's. autoregressive: in ``steps`` network calls, at the best steps by the losses of the training; stages:
    of a cascade, each by its own recipe's section, with the conditioning augmentation at ``levels``, one a stage; own: of
    models that have just one way, and no settings.
    """

    sampler: SamplerName = "ddim"
    steps: Count = 50
    grid: GridName | None = None
    last: Annotated[float, Field(ge=0, lt=1)] = 0.0
    sigma_min: Positive = 0.002
    sigma_max: Positive = 80.0
    rho: Positive = 7.0
    eta: Share = 0.0
    variance: Literal["lower", "upper", "learned"] | None = None
    churn: Annotated[float, Field(ge=0)] = 0.0
    churn_min: Annotated[float, Field(ge=0)] = 0.0
    churn_max: Positive = 1e9
    churn_noise: Positive = 1.0
    corrector_snr: Positive = 0.16
    corrector_steps: Count = 1
    step_lr: Positive | None = None
    tolerance: Positive = 1e-5
    levels: tuple[Annotated[float, Field(ge=0, lt=1)], ...] | None = None
    guidance: float = 1.0
    guidance_interval: tuple[Annotated[float, Field(ge=0)], Positive] | None = None
    negative: str | None = None
    threshold: Literal["static", "dynamic", "none"] = "static"

    @model_validator(mode="after")
    def _known(self) -> Sample:
        for name in sorted(self._foreign()):
            if getattr(self, name) != type(self).model_fields[name].default:
                users = " and ".join(sampler for sampler, knobs in KNOBS.items() if name in knobs) or (
                    "other samplers" if name in SETTINGS else "the grid karras"
                )
                raise ValueError(f"{name} means nothing to {self.sampler}, only to {users}")
        return self

    @model_serializer(mode="wrap")
    def _own(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the knobs of other samplers: a spec or a request that named them would say what is not so. Nor a negative
        text that is none, so that specs and requests of before there were any keep their digests.
        """
        left_out = self._foreign() | (frozenset() if self.negative else frozenset({"negative"}))
        return {name: value for name, value in whole(self).items() if name not in left_out}

    def _foreign(self) -> frozenset[str]:
        karras = frozenset({"sigma_min", "sigma_max", "rho"}) if self.grid != "karras" else frozenset[str]()
        settings = {"own": SETTINGS, "stages": SETTINGS, "autoregressive": SETTINGS - {"steps", "guidance"}}.get(
            self.sampler, frozenset()
        )
        return frozenset[str]().union(*KNOBS.values()) - KNOBS[self.sampler] | karras | settings


class Bound(Section):
    """How the NLL is bounded.

    chain: of ``steps`` levels, equal in log-SNR, from t = 1 to t = ``last``, estimated by ``calls`` stratified network calls
    an image; continuous: its limit of infinitely many steps, by ``calls`` looks, down to t = ``last`` where t = 0 has no
    noise; flow: the probability flow's density of dequantised images, with ``probes`` random probes of its divergence and
    ``draws`` of the dequantisation, by an adaptive solver to ``tolerance`` (cld: by ``calls`` network calls); orders: of
    autoregressive models, by ``calls`` of their steps; latent: of autoencoders, beside it the one by ``draws`` weighted
    latents.
    """

    kind: Literal["chain", "continuous", "flow", "orders", "latent"] = "chain"
    steps: Annotated[int, Field(ge=2)] = 1000
    calls: Count = 50
    last: Annotated[float, Field(gt=0, lt=1)] = 0.02
    probes: Count = 1
    draws: Count = 1
    tolerance: Positive = 1e-4

    @model_validator(mode="after")
    def _covered(self) -> Bound:
        for name in sorted(frozenset[str]().union(*OF_BOUNDS.values()) - OF_BOUNDS[self.kind]):
            if getattr(self, name) != type(self).model_fields[name].default:
                users = " and ".join(kind for kind, knobs in OF_BOUNDS.items() if name in knobs)
                raise ValueError(f"{name} means nothing to {self.kind}, only to {users}")
        if self.kind == "chain" and self.calls >= self.steps:
            raise ValueError(f"calls must be below the chain's {self.steps} steps")
        return self
