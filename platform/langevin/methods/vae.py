"""The variational autoencoder as a model of images in its own right (Kingma & Welling 2013)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from langevin.codecs.codec import DiagonalGaussian
from langevin.codecs.vae import KLCodec
from langevin.diffusion.discretisation import discretised_log_likelihood
from langevin.diffusion.kernels import Gaussian
from langevin.methods.autoencoder import Blocked
from langevin.methods.gaussian import dropping
from langevin.networks.autoencoder import Decoder, Encoder, FromVector, ToVector
from langevin.protocols import Batch, Bound, Cond, Losses
from langevin.randomness import Keys, Noise


class Normal(nn.Module):
    """Discretised normal distributions about the decoder's image, their deviation learned: one, or one for each pixel.

    levels: grey levels of the data; shape: () or the image's; deviation: where it starts, in units of x. (x, mean) ->
    (B,) float64 nats.
    """

    def __init__(self, levels: int, shape: tuple[int, ...] = (), deviation: float = 0.3) -> None:
        super().__init__()
        self.levels = levels
        self.log_deviation = nn.Parameter(torch.full(shape, math.log(deviation)))

    def forward(self, x: Tensor, mean: Tensor) -> Tensor:
        gaussian = Gaussian(mean.double(), torch.exp(2 * self.log_deviation.double()))
        return discretised_log_likelihood(x.double(), gaussian, self.levels).flatten(1).sum(1)


class VAE(nn.Module):
    """z ~ N(0, I), x | z by the codec's decoder and likelihood, both told the class. dropped: share of classes left out;
    draws: of the importance-weighted bound that ``other_bounds`` gives.

    With labels it bounds log P(x | label), with none or -1 log P(x).
    """

    def __init__(self, codec: KLCodec, dropped: float = 0.1, draws: int = 1) -> None:
        super().__init__()
        self.codec, self.dropped, self.draws = codec, dropped, draws

    def loss(self, batch: Batch, keys: Keys) -> Losses:
        """The bound itself, nats a sample. Kingma & Welling 2013, eq. 10, with one draw of z."""
        noise = Noise(keys)
        kl, reconstruction = self._parts(batch.images, dropping(batch.labels, self.dropped, noise), noise)
        return Losses(kl + reconstruction, {"kl": kl.detach(), "reconstruction": reconstruction.detach()})

    def walk(self, keys: Keys, cond: Cond) -> Iterator[Tensor]:
        """One state: what the decoder expects of white noise."""
        like = torch.empty(len(keys), *self.codec.latent_shape, device=keys.ordinals.device)
        yield Blocked(self.codec).decode(Noise(keys).normal("prior", like), cond)

    @torch.no_grad()
    def sample(self, keys: Keys, cond: Cond) -> Tensor:
        return next(self.walk(keys, cond)).clamp(-1, 1)

    @torch.no_grad()
    def bound(self, batch: Batch, keys: Keys) -> Bound:
        kl, reconstruction = self._parts(batch.images, batch.labels, Noise(keys))
        return Bound(kl, torch.zeros_like(kl), reconstruction)

    @torch.no_grad()
    def importance_bound(self, batch: Batch, keys: Keys, draws: int) -> Tensor:
        """-log of the mean over draws z_k ~ q(z|x) of P(x|z_k) p(z_k) / q(z_k|x): (B,) nats. Burda et al. 2016, eq. 8.

        In the mean above -log P(x), not larger for more draws, and in their limit equal to it. ValueError for draws < 1.
        """
        if draws < 1:
            raise ValueError(f"a bound needs at least one draw, not {draws}")
        x, cond, noise = batch.images, batch.labels, Noise(keys)
        posterior = self.codec.posterior(x, cond)
        prior = DiagonalGaussian(torch.zeros_like(posterior.mean), torch.zeros_like(posterior.log_var))
        weights = []
        for draw in range(draws):
            z = posterior.sample(noise.within(f"draw/{draw}"))
            weights.append(self.codec.log_likelihood(x, z, cond) + prior.log_prob(z) - posterior.log_prob(z))
        return math.log(draws) - torch.logsumexp(torch.stack(weights), dim=0)

    def other_bounds(self, batch: Batch, keys: Keys) -> dict[str, Tensor]:
        return {"importance": self.importance_bound(batch, keys, self.draws)}

    @torch.no_grad()
    def reconstruct(self, images: Tensor) -> Tensor:
        """The images, (B, C, H, W) in [-1, 1], as their mean latents are decoded, of no class."""
        codec = Blocked(self.codec)
        return codec.decode(codec.encode(images, None)).clamp(-1, 1)

    @torch.no_grad()
    def latent_grid(self, plane: Plane, side: int, cond: Cond = None) -> Tensor:
        """Images (side, side, C, H, W) at the normal distribution's quantiles along the plane's two axes, rows the first.

        cond: (side^2,), row by row. Kingma & Welling 2013, appendix A.
        """
        shares = (torch.arange(side, dtype=torch.float64) + 0.5) / side
        steps = torch.special.ndtri(shares).to(plane.origin)
        rows, columns = torch.meshgrid(steps, steps, indexing="ij")
        z = plane.at(torch.stack([rows.flatten(), columns.flatten()], dim=1))
        images = Blocked(self.codec).decode(z, cond).clamp(-1, 1)
        return images.reshape(side, side, *images.shape[1:])

    @torch.no_grad()
    def interpolation(
        self, x: Tensor, y: Tensor, steps: int, cond: Cond = None, along: Callable[..., Tensor] | None = None
    ) -> Tensor:
        """Images (B, steps, C, H, W) from x to y, both (B, C, H, W), as their mean latents are mixed.

        along(a, b, share): ``spherical`` unless said; torch.lerp for straight lines.
        """
        codec = Blocked(self.codec)
        a, b = codec.encode(x, None, cond), codec.encode(y, None, cond)
        shares = torch.linspace(0, 1, steps).tolist()
        return torch.stack([codec.decode((along or spherical)(a, b, u), cond).clamp(-1, 1) for u in shares], dim=1)

    def _parts(self, x: Tensor, cond: Cond, noise: Noise) -> tuple[Tensor, Tensor]:
        """KL(q(z|x) || N(0, I)) and -log P(x|z) for a draw of z: (B,) nats each."""
        posterior = self.codec.posterior(x, cond)
        return posterior.kl(), -self.codec.log_likelihood(x, posterior.sample(noise), cond)


@dataclass(frozen=True)
class Plane:
    """A plane of latents: origin, (*latent_shape), and two axes, (2, *latent_shape), at one deviation from it."""

    origin: Tensor
    axes: Tensor

    @classmethod
    def principal(cls, latents: Tensor) -> Plane:
        """Through the mean of latents (N, *latent_shape), N > 2, along the two directions in which they differ most."""
        origin = latents.mean(0)
        _, sizes, directions = torch.linalg.svd((latents - origin).flatten(1), full_matrices=False)
        axes = directions[:2] * sizes[:2, None] / math.sqrt(len(latents) - 1)
        return cls(origin, axes.reshape(2, *origin.shape))

    @classmethod
    def whole(cls) -> Plane:
        """All there is of latents of two dimensions."""
        return cls(torch.zeros(2), torch.eye(2))

    def at(self, places: Tensor) -> Tensor:
        """places: (N, 2) deviations along the axes -> (N, *latent_shape)."""
        return self.origin + (places @ self.axes.flatten(1)).reshape(-1, *self.origin.shape)


def spherical(a: Tensor, b: Tensor, share: float) -> Tensor:
    """From a to b, (B, ...), along the arc between them, so that white noise stays as long as it is. Shoemake 1985."""
    shape = (-1,) + (1,) * (a.ndim - 1)
    cosine = torch.cosine_similarity(a.flatten(1).double(), b.flatten(1).double()).reshape(shape)
    angle = torch.arccos(cosine.clamp(-1 + 1e-9, 1 - 1e-9))  # where they agree the arc is a line, in the limit
    mixed = torch.sin((1 - share) * angle) * a.double() + torch.sin(share * angle) * b.double()
    return (mixed / torch.sin(angle)).to(a)


def vae(
    image_shape: tuple[int, int, int],
    levels: int,
    *,
    dims: int = 32,
    channels: int = 32,
    multipliers: tuple[int, ...] = (1, 2, 4),
    patch: int = 1,
    classes: int = 0,
    dropped: float = 0.1,
    draws: int = 1,
) -> VAE:
    """A convolutional VAE with latent vectors of ``dims`` numbers and one learned deviation of all pixels."""
    encoder = Encoder(image_shape, 4, channels, multipliers, classes=classes, patch=patch)
    decoder = Decoder(image_shape, 4, channels, multipliers, classes=classes, patch=patch)
    codec = KLCodec(ToVector(encoder, dims), FromVector(decoder, dims), (dims,), Normal(levels))
    return VAE(codec, dropped, draws)
