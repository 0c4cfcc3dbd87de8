"""The recipe's ``model`` section: a section for each method, with the fields of its parts and the paper's values."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from langevin.config.section import Count, Positive, Section, Share

Prediction = Literal["noise", "data", "velocity", "score", "flow"]
Weighting = Literal["simple", "snr", "min_snr", "soft_min_snr", "p2", "velocity", "likelihood"]
Times = Literal["stratified", "uniform", "antithetic", "uniform_log_snr", "loss_aware"]


class Network(Section):
    """The UNet. channels: at full resolution; attention: the resolutions, in pixels a side, that attend."""

    channels: Count = 64
    multipliers: Annotated[tuple[Count, ...], Field(min_length=1)] = (1, 2)
    blocks: Count = 2
    attention: tuple[Count, ...] = ()


class Schedule(Section):
    """A discrete chain of ``steps`` = T noise levels."""

    name: Literal["linear", "cosine", "scaled_linear", "sigmoid"] = "cosine"
    steps: Count = 1000


class VP(Section):
    name: Literal["vp"] = "vp"
    beta_min: Positive = 0.1
    beta_max: Positive = 20.0


class SubVP(Section):
    name: Literal["subvp"]
    beta_min: Positive = 0.1
    beta_max: Positive = 20.0


class VE(Section):
    """sigma_max: about the largest distance of two images (Song & Ermon 2020, technique 1)."""

    name: Literal["ve"]
    sigma_min: Positive = 0.01
    sigma_max: Positive = 50.0


class Cosine(Section):
    name: Literal["cosine"]


class Method(Section):
    """What all have. condition_dropout: the share of images that are shown without their class."""

    network: Network = Network()
    condition_dropout: Share = 0.1


class DDPM(Method):
    method: Literal["ddpm"]
    schedule: Schedule = Schedule()
    prediction: Prediction = "noise"
    weighting: Weighting = "simple"


class ImprovedDDPM(Method):
    """objective: L_simple + 0.001 L_vlb, or L_vlb alone."""

    method: Literal["improved_ddpm"]
    schedule: Schedule = Schedule()
    prediction: Prediction = "noise"
    objective: Literal["hybrid", "vlb"] = "hybrid"
    times: Literal["stratified", "loss_aware"] = "stratified"


class Guided(Method):
    """An unconditional DDPM and the classifier that guides it; sample.guidance is the classifier's scale."""

    method: Literal["guided"]
    schedule: Schedule = Schedule()
    prediction: Prediction = "noise"
    weighting: Weighting = "simple"
    classifier: Network = Network(channels=32, blocks=1)


class NCSN(Method):
    """levels: of the ladder from sigma_max to sigma_min. Values of the paper, twice its sigmas: its images are in [0, 1]."""

    method: Literal["ncsn"]
    sigma_min: Positive = 0.02
    sigma_max: Positive = 2.0
    levels: Annotated[int, Field(ge=2)] = 10


class NCSNv2(Method):
    """levels: None takes technique 2's, by the overlap of neighbours."""

    method: Literal["ncsnv2"]
    sigma_min: Positive = 0.02
    sigma_max: Positive = 50.0
    levels: Annotated[int, Field(ge=2)] | None = None


class ScoreSDE(Method):
    """t_min: where training and likelihood end; sampling ends at sample.last."""

    method: Literal["score_sde"]
    schedule: Annotated[VP | SubVP | VE | Cosine, Field(discriminator="name")] = VP()
    prediction: Prediction = "noise"
    weighting: Weighting = "simple"
    times: Times = "stratified"
    t_min: Annotated[float, Field(gt=0, lt=1)] = 1e-5


class CLD(Method):
    """Critically-damped Langevin diffusion: mass M, beta, and gamma of the velocity's first variance gamma M."""

    method: Literal["cld"]
    beta: Positive = 4.0
    mass: Positive = 0.25
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.04
    t_min: Annotated[float, Field(gt=0, lt=1)] = 1e-3


class EDM(Method):
    """sigma_data: the deviation of the data's values; ln(sigma) ~ N(mean, deviation^2) in training."""

    method: Literal["edm"]
    sigma_min: Positive = 0.002
    sigma_max: Positive = 80.0
    sigma_data: Positive = 0.5
    mean: float = -1.2
    deviation: Positive = 1.2


class EDM2(Method):
    """EDM's fields with EDM2's values; the network is the magnitude-preserving one."""

    method: Literal["edm2"]
    sigma_min: Positive = 0.002
    sigma_max: Positive = 80.0
    sigma_data: Positive = 0.5
    mean: float = -0.4
    deviation: Positive = 1.0


class VDM(Method):
    """gamma = -log_snr at its ends; fourier: exponents n of the input's sin(2^n pi x), cos(2^n pi x)."""

    method: Literal["vdm"]
    gamma_min: float = -13.3
    gamma_max: float = 5.0
    fourier: tuple[int, ...] = (7, 8)


class RectifiedFlow(Method):
    method: Literal["rectified"]
    prediction: Prediction = "flow"


Model = Annotated[
    DDPM | ImprovedDDPM | Guided | NCSN | NCSNv2 | ScoreSDE | CLD | EDM | EDM2 | VDM | RectifiedFlow,
    Field(discriminator="method"),
]
MODEL: TypeAdapter[Model] = TypeAdapter(Model)
