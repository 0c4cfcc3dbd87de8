"""Stage one of latent diffusion: an autoencoder with a touch of KL and a discriminator (Rombach et al. 2022, section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import relu

from langevin.codecs.codec import Codec, DiagonalGaussian
from langevin.codecs.vae import KLCodec
from langevin.networks.blocks import InBlocks
from langevin.networks.perceptual import Perceptual
from langevin.protocols import Batch, Bound, Cond, Losses
from langevin.randomness import Keys, Noise


@dataclass(frozen=True)
class Weights:
    """What each term counts for beside the L1 distance. All terms are means over an image's dimensions or patches.

    kl: of KL / (C H W) in nats, so that it is to L1 as in the paper's code, where both are sums; adversarial: of the
    generator's hinge loss, fixed where the paper adapts it to the batch's gradients: a sample's loss is its own;
    adversarial_from: images seen before the discriminator learns and is listened to; perceptual: of how different images look.
    """

    kl: float = 1e-6
    adversarial: float = 0.1
    adversarial_from: int = 0
    perceptual: float = 1.0


class Autoencoder(nn.Module):
    """A codec and, in training, a discriminator of patches; None for none. It is no model of images: see ``Latent``.

    perceptual: how different images and their reconstructions look (networks/perceptual.py), which is no part of the model's
    state; None for no such term. The codec's likelihood learns from a term of its own, of which nothing else feels the
    gradient, and nothing but the discriminator feels that of the discriminator's. seen: images trained on, a buffer; an
    average of the weights has seen none, so a validation loss is without the adversarial terms at any time.
    """

    seen: Tensor

    def __init__(
        self,
        codec: KLCodec,
        discriminator: nn.Module | None,
        weights: Weights = Weights(),
        perceptual: Perceptual | None = None,
    ) -> None:
        super().__init__()
        self.codec, self.discriminator, self.weights, self.perceptual = codec, discriminator, weights, perceptual
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def loss(self, batch: Batch, keys: Keys) -> Losses:
        """L1 + weighted KL, perceptual and adversarial terms + the discriminator's loss + the likelihood's, per sample."""
        x, weights, dims = batch.images, self.weights, batch.images[0].numel()
        posterior = self.codec.posterior(x)
        y = self.codec.decode(posterior.sample(Noise(keys)))
        terms = {
            "l1": _mean(torch.abs(x - y)),
            "kl": posterior.kl() / dims,
            "likelihood": -self.codec.likelihood(x, y.detach()) / dims,
            **({} if self.discriminator is None else self._judged(x, y, self.discriminator)),
        }
        total = terms["l1"] + weights.kl * terms["kl"] + terms["likelihood"]
        if self.discriminator is not None:
            total = total + weights.adversarial * terms["generator"] + terms["discriminator"]
        if self.perceptual is not None:
            terms["perceptual"] = self.perceptual(x, y)
            total = total + weights.perceptual * terms["perceptual"]
        return Losses(total, {name: term.detach() for name, term in terms.items()})

    def adapt(self, ordinals: Tensor, terms: Mapping[str, Tensor]) -> None:
        self.seen += len(ordinals)

    @torch.no_grad()
    def reconstruct(self, images: Tensor) -> Tensor:
        """The images as their mean latents are decoded: what rFID and PSNR look at. (B, C, H, W) in [-1, 1], as they are."""
        codec = Blocked(self.codec)
        return codec.decode(codec.encode(images, None)).clamp(-1, 1)

    @torch.no_grad()
    def bound(self, batch: Batch, keys: Keys) -> Bound:
        """-log P(x) <= KL(q(z|x) || N(0, I)) + E_q[-log P(x|z)] for scaled latents z: the bound under a white prior."""
        posterior = self.codec.posterior(batch.images)
        z = posterior.sample(Noise(keys))
        prior = posterior.kl()
        return Bound(prior, torch.zeros_like(prior), -self.codec.log_likelihood(batch.images, z))

    def _judged(self, x: Tensor, y: Tensor, discriminator: nn.Module) -> dict[str, Tensor]:
        """The hinge losses of the generator and of the discriminator, (B,) each. Esser et al. 2021; Lim & Ye 2017.

        Zeros before their time, through which every weight has a gradient of zero: processes that average gradients
        wait for each of them.
        """
        if int(self.seen) < self.weights.adversarial_from:
            nothing = sum(0 * parameter.sum() for parameter in discriminator.parameters())
            return {"generator": _mean(x.new_zeros(x.shape)), "discriminator": _mean(x.new_zeros(x.shape)) + nothing}
        frozen = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
        generator = -_mean(functional_call(discriminator, frozen, y))
        real, fake = discriminator(x), discriminator(y.detach())
        return {"generator": generator, "discriminator": 0.5 * _mean(relu(1 - real)) + 0.5 * _mean(relu(1 + fake))}


@dataclass(frozen=True)
class Blocked:
    """The same codec, by blocks of samples (networks/blocks.py): its bits do not depend on the batch."""

    base: Codec

    @property
    def scale(self) -> Tensor:
        return self.base.scale

    @property
    def latent_shape(self) -> tuple[int, ...]:
        return self.base.latent_shape

    def posterior(self, x: Tensor, cond: Cond = None) -> DiagonalGaussian:
        mean, log_var = InBlocks(_Posterior(self.base))(x, cond).chunk(2, dim=1)
        return DiagonalGaussian(mean, log_var)

    def encode(self, x: Tensor, noise: Noise | None, cond: Cond = None) -> Tensor:
        posterior = self.posterior(x, cond)
        return posterior.mean if noise is None else posterior.sample(noise)

    def decode(self, z: Tensor, cond: Cond = None) -> Tensor:
        out: Tensor = InBlocks(_Decoded(self.base))(z, cond)
        return out

    def log_likelihood(self, x: Tensor, z: Tensor, cond: Cond = None) -> Tensor:
        return self.base.log_likelihood(x, z, cond)


class _Posterior(nn.Module):
    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, x: Tensor, cond: Cond) -> Tensor:
        posterior = self.codec.posterior(x, cond)
        return torch.cat([posterior.mean, posterior.log_var], dim=1)


class _Decoded(nn.Module):
    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, z: Tensor, cond: Cond) -> Tensor:
        return self.codec.decode(z, cond)


def _mean(values: Tensor) -> Tensor:
    return values.flatten(1).mean(1)
