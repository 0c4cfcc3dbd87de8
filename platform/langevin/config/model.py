"""The recipe's ``model`` section: a section for each method, with the fields of its parts and the paper's values."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, TypeAdapter, model_validator

from langevin.config.section import Count, Positive, Section, Share

Prediction = Literal["noise", "data", "velocity", "score", "flow"]
Weighting = Literal["simple", "snr", "min_snr", "soft_min_snr", "p2", "velocity", "likelihood"]
Times = Literal["stratified", "uniform", "antithetic", "uniform_log_snr", "loss_aware"]


class UNet(Section):
    """channels: at full resolution; attention: the resolutions, in pixels a side, that attend."""

    kind: Literal["unet"] = "unet"
    channels: Count = 64
    multipliers: Annotated[tuple[Count, ...], Field(min_length=1)] = (1, 2)
    blocks: Count = 2
    attention: tuple[Count, ...] = ()


class DiT(Section):
    """The transformer of Peebles & Xie 2022. patch: pixels a side of a token; width: of it; the defaults are DiT-S/2's."""

    kind: Literal["dit"]
    patch: Count = 2
    width: Count = 384
    depth: Count = 12
    heads: Count = 6


def _kind(network: Any) -> str:
    """Which network a section is, the UNet where it does not say."""
    return str(network.get("kind", "unet") if isinstance(network, dict) else network.kind)


Network = Annotated[Annotated[UNet, Tag("unet")] | Annotated[DiT, Tag("dit")], Discriminator(_kind)]


class Text(Section):
    """The encoder of captions, trained with the model: a transformer over their words, spelt by bytes, of which it reads
    ``length``; merge: bytes a token, more of which a longer word takes.
    """

    kind: Literal["bytes"] = "bytes"
    width: Count = 128
    layers: Count = 2
    heads: Count = 4
    length: Count = 96
    merge: Annotated[int, Field(ge=2)] = 8


class FrozenText(Section):
    """An encoder of captions that was trained before, of the library transformers. encoder: its name there, or a folder;
    length: in tokens, None for the encoder's own.
    """

    kind: Literal["clip", "t5"]
    encoder: str
    length: Count | None = None


def _reader(text: Any) -> str:
    """Which encoder a section is: one of bytes where it does not say."""
    kind = text.get("kind", "bytes") if isinstance(text, dict) else text.kind
    return "bytes" if kind == "bytes" else "frozen"


Reader = Annotated[Annotated[Text, Tag("bytes")] | Annotated[FrozenText, Tag("frozen")], Discriminator(_reader)]


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
    """What all have. condition: what images are drawn for, their class or their caption, which ``text`` then reads;
    condition_dropout: the share of images that are shown without it.
    """

    network: Network = UNet()
    condition: Literal["class", "caption"] = "class"
    text: Reader | None = None
    condition_dropout: Share = 0.1

    @model_validator(mode="after")
    def _read(self) -> Method:
        if (self.condition == "caption") != (self.text is not None):
            raise ValueError("condition: caption and text (what reads the captions) need each other")
        return self


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
    classifier: UNet = UNet(channels=32, blocks=1)


class CLIPGuided(Section):
    """A DDPM that does not read and a CLIP that does, of noisy images and texts, whose gradient leads it to a caption;
    sample.guidance is its scale. image: the CLIP's tower of images; width: of its vectors.
    """

    method: Literal["clip_guided"]
    network: Network = UNet()
    image: UNet = UNet(channels=32, blocks=1)
    text: Text = Text()
    width: Count = 64
    schedule: Schedule = Schedule()
    prediction: Prediction = "noise"
    weighting: Weighting = "simple"


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


class Codec(Section):
    """What an autoencoder's encoder and decoder are like. patch: pixels a side that become channels at first; channels: times
    the multiplier at each resolution, halved in between; latent_channels: of the latents, whose sides are the lowest
    resolution's.
    """

    patch: Count = 1
    channels: Count = 32
    multipliers: Annotated[tuple[Count, ...], Field(min_length=1)] = (1, 2, 4)
    blocks: Count = 1
    latent_channels: Count = 4


class Autoencoder(Section):
    """Stage one of latent diffusion. adversarial: the weight of a discriminator of patches, which begins after
    ``adversarial_from`` images; 0 for none of it. perceptual: a file of torchvision's VGG16, by whose features images and
    reconstructions are compared as well, at ``perceptual_weight``; None for no such term.
    """

    method: Literal["autoencoder"]
    network: Codec = Codec()
    kl: Annotated[float, Field(ge=0)] = 1e-6
    adversarial: Annotated[float, Field(ge=0)] = 0.1
    adversarial_from: Annotated[int, Field(ge=0)] = 0
    discriminator_channels: Count = 32
    perceptual: str | None = None
    perceptual_weight: Positive = 1.0

    @model_validator(mode="after")
    def _looked_through(self) -> Autoencoder:
        if self.perceptual is None and self.perceptual_weight != 1.0:
            raise ValueError("perceptual_weight means nothing without perceptual, a file of VGG16's weights")
        return self


class VAE(Section):
    """A variational autoencoder with latent vectors of ``dims`` numbers."""

    method: Literal["vae"]
    dims: Count = 32
    network: Codec = Codec()
    condition_dropout: Share = 0.1


class ARDM(Section):
    """Order-agnostic autoregressive diffusion over grey levels. base: of the digits that a level is generated in, the most
    significant first (the upscaling variant); None for whole levels.
    """

    method: Literal["ardm"]
    network: UNet = UNet()
    base: Annotated[int, Field(ge=2)] | None = None
    condition_dropout: Share = 0.1


class Cascade(Section):
    """Models that are trained already, by their recipes' names: of small images, and the stages that enlarge them one after
    the other.
    """

    method: Literal["cascade"]
    base: str
    stages: Annotated[tuple[str, ...], Field(min_length=1)]


Gaussian = DDPM | ImprovedDDPM | Guided | CLIPGuided | NCSN | NCSNv2 | ScoreSDE | CLD | EDM | EDM2 | VDM | RectifiedFlow
Model = Annotated[Gaussian | Autoencoder | VAE | ARDM | Cascade, Field(discriminator="method")]
MODEL: TypeAdapter[Model] = TypeAdapter(Model)
