"""Diffusion guided by a noise-aware classifier (ADM-G, Dhariwal & Nichol 2021): both are trained here, side by side."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from langevin.diffusion.denoiser import Denoiser, Denoises
from langevin.diffusion.guidance import ClassPotential, GradientGuided
from langevin.diffusion.objectives import Denoising
from langevin.diffusion.parameterizations import Noise as NoisePrediction
from langevin.diffusion.parameterizations import Parameterization
from langevin.diffusion.samplers import Ancestral, GuidedAncestral, Sampler
from langevin.diffusion.schedules import Tabulated
from langevin.diffusion.times import Discrete, Stratified
from langevin.diffusion.weightings import Simple, Weighting
from langevin.methods.gaussian import Bounding, GaussianDiffusion, Objective, Sampling, in_blocks
from langevin.networks.blocks import InBlocks
from langevin.protocols import Batch, Losses
from langevin.randomness import Keys, Noise


class GuidedDiffusion(GaussianDiffusion):
    """An unconditional diffusion model and a classifier of x_t, whose gradient leads it to a class.

    The two share no parameter and their losses add up, so each is trained as it would be alone. sampling.scale: of the
    classifier's gradient, 1 is the class-conditional model that Bayes' rule makes of the two; above it classes are sharper
    and samples less diverse. classifier(x, noise) -> (B, classes) logits, noise: (B,) times.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        classifier: nn.Module,
        objective: Objective,
        image_shape: tuple[int, int, int],
        sampling: Sampling,
        bounding: Bounding,
    ) -> None:
        super().__init__(denoiser, objective, image_shape, 1.0, sampling, bounding, classifier=classifier)

    def loss(self, batch: Batch, keys: Keys) -> Losses:
        """The objective's loss plus the classifier's cross-entropy (nats) at uniform noise levels. Their section 4.1."""
        assert batch.labels is not None  # a recipe for data without classes is refused
        found = super().loss(batch, keys)
        noise = Noise(keys).within("classifier")
        t = noise.uniform("timestep", batch.ordinals.double())
        x = self.denoiser.schedule(t).diffuse(batch.images, noise.normal("forward", batch.images))
        classified = cross_entropy(self.parts["classifier"](x, t.to(x)), batch.labels, reduction="none")
        terms = {**found.terms, "denoising": found.total.detach(), "classifier": classified.detach()}
        return Losses(found.total + classified, terms)

    def drawn_by(self) -> tuple[Denoises, Sampler]:
        """Their algorithm 1 where steps are ancestral, algorithm 2, which moves the score, where they are not."""
        drawn, potential = self.sampling, ClassPotential(InBlocks(self.parts["classifier"]))
        denoiser = in_blocks(self.denoiser)
        if isinstance(drawn.sampler, Ancestral):
            return drawn.clamped(denoiser), GuidedAncestral(potential, drawn.scale, drawn.sampler.variance)
        return drawn.clamped(GradientGuided(denoiser, potential, drawn.scale)), drawn.sampler


def guided(
    network: nn.Module,
    classifier: nn.Module,
    betas: Tensor,
    image_shape: tuple[int, int, int],
    sampling: Sampling,
    bounding: Bounding,
    *,
    parameterization: Parameterization = NoisePrediction(),  # noqa: B008
    weighting: Weighting = Simple(),  # noqa: B008
) -> GuidedDiffusion:
    """DDPM without classes, and the classifier. network(x, noise, cond): the condition is not used; betas: (T,)."""
    denoiser = Denoiser(network, Tabulated(betas), parameterization)
    objective = Denoising(Discrete(len(betas), Stratified()), weighting)
    return GuidedDiffusion(denoiser, classifier, objective, image_shape, sampling, bounding)
