"""Diffusion guided to a text by a noise-aware CLIP (GLIDE, Nichol et al. 2021, section 2.4): both are trained, side by side."""

from __future__ import annotations

from torch import Tensor, nn

from langevin.diffusion.denoiser import Denoiser, Denoises
from langevin.diffusion.guidance import GradientGuided, Similarity
from langevin.diffusion.objectives import Denoising
from langevin.diffusion.parameterizations import Noise as NoisePrediction
from langevin.diffusion.parameterizations import Parameterization
from langevin.diffusion.samplers import Ancestral, GuidedAncestral, Sampler
from langevin.diffusion.schedules import Tabulated
from langevin.diffusion.times import Discrete, Stratified
from langevin.diffusion.weightings import Simple, Weighting
from langevin.methods.captioned import by_caption
from langevin.methods.gaussian import Bounding, GaussianDiffusion, Objective, Sampling, in_blocks
from langevin.networks.blocks import InBlocks
from langevin.networks.clip import NoisyCLIP
from langevin.protocols import Batch, Bound, Losses
from langevin.randomness import Keys, Noise


class CLIPGuidedDiffusion(GaussianDiffusion):
    """A diffusion model and a CLIP of x_t, whose gradient leads it to a caption: cond is captions (B, L), None for none.

    The two share no parameter and their losses add up, so each is trained as it would be alone. The potential is the
    CLIP's scale x cosine, so that at sampling.scale 1 an unconditional model becomes, by Bayes' rule, the one of the
    caption; above it texts are met more closely and samples less diverse. dropped: share of captions that the denoiser is
    not told; 1 for one that does not read.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        clip: NoisyCLIP,
        objective: Objective,
        image_shape: tuple[int, int, int],
        dropped: float,
        sampling: Sampling,
        bounding: Bounding,
    ) -> None:
        super().__init__(denoiser, objective, image_shape, dropped, sampling, bounding, clip=clip)

    def loss(self, batch: Batch, keys: Keys) -> Losses:
        """The objective's loss plus CLIP's contrast (nats) at uniform noise levels, among the batch's own pairs."""
        assert batch.captions is not None  # a recipe for data without captions is refused
        found = super().loss(by_caption(batch), keys)
        noise = Noise(keys).within("clip")
        t = noise.uniform("timestep", batch.ordinals.double())
        x = self.denoiser.schedule(t).diffuse(batch.images, noise.normal("forward", batch.images))
        contrast = self.parts["clip"](x, t.to(x), batch.captions)
        terms = {**found.terms, "denoising": found.total.detach(), "clip": contrast.detach()}
        return Losses(found.total + contrast, terms)

    def bound(self, batch: Batch, keys: Keys) -> Bound:
        return super().bound(by_caption(batch), keys)

    def drawn_by(self) -> tuple[Denoises, Sampler]:
        """The gradient moves the mean where steps are ancestral, and the score where they are not."""
        drawn, clip = self.sampling, self.parts["clip"]
        assert isinstance(clip, NoisyCLIP)
        potential, scale = similarity(clip), drawn.scale * float(clip.scale.detach())
        denoiser = in_blocks(self.denoiser)
        if isinstance(drawn.sampler, Ancestral):
            return drawn.clamped(denoiser), GuidedAncestral(potential, scale, drawn.sampler.variance)
        return drawn.clamped(GradientGuided(denoiser, potential, scale)), drawn.sampler


def similarity(clip: NoisyCLIP) -> Similarity:
    """The cosine of an image's and a caption's vector, whose bits do not depend on the batch."""
    image, text = InBlocks(clip.image), InBlocks(clip.text)
    return Similarity(image, lambda captions: clip.text_embedding(None) if captions is None else text(captions))


def clip_guided(
    network: nn.Module,
    clip: NoisyCLIP,
    betas: Tensor,
    image_shape: tuple[int, int, int],
    sampling: Sampling,
    bounding: Bounding,
    *,
    parameterization: Parameterization = NoisePrediction(),  # noqa: B008
    weighting: Weighting = Simple(),  # noqa: B008
    dropped: float = 1.0,
) -> CLIPGuidedDiffusion:
    """DDPM, and the CLIP. network(x, noise, cond): it may read captions, or leave the condition alone; betas: (T,)."""
    denoiser = Denoiser(network, Tabulated(betas), parameterization)
    objective = Denoising(Discrete(len(betas), Stratified()), weighting)
    return CLIPGuidedDiffusion(denoiser, clip, objective, image_shape, dropped, sampling, bounding)
