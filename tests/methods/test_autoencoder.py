"""Stage one of latent diffusion: two networks that are trained by one loss and share no gradient."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from langevin.codecs.vae import KLCodec, Laplace
from langevin.methods.autoencoder import Autoencoder, Blocked, Weights
from langevin.networks.autoencoder import Decoder, Encoder
from langevin.networks.discriminator import PatchDiscriminator
from langevin.networks.perceptual import Perceptual
from langevin.protocols import Adapts, Batch, Bounded, Reconstructs, Samples, Trainable
from langevin.randomness import Keys, Noise

from .examples import LEVELS, SHAPE, batch

KEYS = Keys.range(5, 0, 8)
ALL = Weights(kl=0.1, adversarial=0.5)  # large enough to be seen


class Maps(nn.Module):
    """Two maps of features, of two sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 6, 3, stride=2)

    def forward(self, x: Tensor) -> list[Tensor]:
        h = self.first(x).relu()
        return [h, self.second(h)]


def made(
    weights: Weights = ALL, perceptual: Perceptual | None = None, channels: int = 16, judged: bool = True
) -> Autoencoder:
    torch.manual_seed(0)
    encoder, decoder = Encoder(SHAPE, 2, channels, (1, 2)), Decoder(SHAPE, 2, channels, (1, 2))
    codec = KLCodec(encoder, decoder, encoder.latent_shape, Laplace(LEVELS))
    return Autoencoder(codec, PatchDiscriminator(SHAPE, 16, 1) if judged else None, weights, perceptual)


def gradients(method: Autoencoder) -> dict[str, Tensor]:
    method.zero_grad()
    method.loss(batch(0, 8), KEYS).total.mean().backward()
    return {name: parameter.grad for name, parameter in method.named_parameters() if parameter.grad is not None}


def test_it_is_what_the_platform_asks_for() -> None:
    """But for samples: it is no model of images, and latents of white noise decode to nothing."""
    method = made()
    assert all(isinstance(method, protocol) for protocol in (Trainable, Reconstructs, Bounded, Adapts))
    assert not isinstance(method, Samples)


def test_gradient_reaches_every_parameter() -> None:
    method = made()
    with torch.no_grad():  # between -1 and 1 the two halves of the hinge hold the last bias in balance
        method.discriminator.layers[-1].bias.fill_(2)  # type: ignore[index, operator, union-attr]
    found = gradients(method)
    assert [name for name, p in method.named_parameters() if name not in found or not found[name].any()] == []


def test_losses_are_a_function_of_weights_batch_and_keys() -> None:
    method = made(perceptual=Perceptual(Maps))
    whole = method.loss(batch(0, 8), KEYS)
    parts = [method.loss(batch(a, b), Keys.range(5, a, b)) for a, b in ((0, 3), (3, 8))]
    torch.testing.assert_close(torch.cat([part.total for part in parts]), whole.total, rtol=1e-4, atol=1e-5)
    for term, values in whole.terms.items():
        assert values.shape == (8,)
        assert not values.requires_grad
        torch.testing.assert_close(torch.cat([part.terms[term] for part in parts]), values, rtol=1e-4, atol=1e-5)


def test_the_generator_feels_nothing_of_the_discriminators_loss_nor_the_other_way() -> None:
    """The discriminator's gradient is that of its own hinge loss, the codec's that of the rest."""
    method, data = made(), batch(0, 8)
    together = gradients(method)
    with torch.no_grad():
        y = method.codec.decode(method.codec.encode(data.images, Noise(KEYS)))
    own = 0.5 * ((1 - method.discriminator(data.images)).relu().mean() + (1 + method.discriminator(y)).relu().mean())
    names, weights = zip(*method.discriminator.named_parameters(), strict=True)
    for name, expected in zip(names, torch.autograd.grad(own, weights), strict=True):
        torch.testing.assert_close(together[f"discriminator.{name}"], expected, rtol=1e-3, atol=1e-7)

    posterior = method.codec.posterior(data.images)
    y = method.codec.decode(posterior.sample(Noise(KEYS)))
    rest = (data.images - y).abs().mean() + 0.1 * posterior.kl().mean() / 64 - 0.5 * method.discriminator(y).mean()
    names, weights = zip(*method.codec.encoder.named_parameters(), strict=True)
    for name, expected in zip(names, torch.autograd.grad(rest, weights), strict=True):
        torch.testing.assert_close(together[f"codec.encoder.{name}"], expected, rtol=1e-3, atol=1e-6)


def test_the_likelihood_learns_and_moves_nothing_else() -> None:
    method, other = made(), made()
    with torch.no_grad():
        other.codec.likelihood.log_width.fill_(0.5)
    one, two = gradients(method), gradients(other)
    changed = [name for name in one if not torch.equal(one[name], two[name])]
    assert changed == ["codec.likelihood.log_width"]


def test_before_its_time_the_discriminator_stands_still_and_is_not_listened_to() -> None:
    method, silent = made(Weights(kl=0.1, adversarial=0.5, adversarial_from=16)), made(Weights(kl=0.1, adversarial=0.0))
    early, without = gradients(method), gradients(silent)
    for name, gradient in early.items():  # there is one for each weight, so that no process waits
        expected = torch.zeros_like(gradient) if name.startswith("discriminator") else without[name]
        torch.testing.assert_close(gradient, expected, rtol=0, atol=0)
    terms = method.loss(batch(0, 8), KEYS).terms
    assert not terms["generator"].any()
    assert not terms["discriminator"].any()
    assert terms.keys() == made().loss(batch(0, 8), KEYS).terms.keys()
    for start in (0, 8):
        assert not method.loss(batch(0, 8), KEYS).terms["discriminator"].any()
        method.adapt(torch.arange(start, start + 8), terms)
    assert bool(method.loss(batch(0, 8), KEYS).terms["discriminator"].all())
    resumed = made(method.weights)
    resumed.load_state_dict(method.state_dict())
    assert int(resumed.seen) == 16
    assert torch.equal(resumed.loss(batch(0, 8), KEYS).total, method.loss(batch(0, 8), KEYS).total)


def test_without_a_discriminator_the_rest_is_as_with_one_that_is_not_listened_to() -> None:
    alone, silent = made(judged=False), made(Weights(kl=0.1, adversarial=0.0))
    with torch.no_grad():
        found, beside = alone.loss(batch(0, 8), KEYS), silent.loss(batch(0, 8), KEYS)
    assert beside.terms.keys() - found.terms.keys() == {"generator", "discriminator"}
    torch.testing.assert_close(found.total, beside.total - beside.terms["discriminator"])
    one, other = gradients(alone), gradients(silent)
    assert one.keys() == {name for name in other if not name.startswith("discriminator")}
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_how_images_look_counts_too_and_is_no_part_of_the_state() -> None:
    looks = Perceptual(Maps)
    method, plain = made(Weights(kl=0.1, adversarial=0.5, perceptual=3.0), looks), made()
    found, losses = gradients(method), method.loss(batch(0, 8), KEYS)
    assert found.keys() == gradients(plain).keys()
    without = plain.loss(batch(0, 8), KEYS)
    torch.testing.assert_close(losses.total, without.total + 3.0 * losses.terms["perceptual"])
    assert not torch.equal(found["codec.encoder.stem.weight"], gradients(plain)["codec.encoder.stem.weight"])
    assert not any(parameter.requires_grad for parameter in looks.load().parameters())

    assert method.state_dict().keys() == plain.state_dict().keys()
    assert sum(p.numel() for p in method.parameters()) == sum(p.numel() for p in plain.parameters())
    assert copy.deepcopy(method).perceptual is looks  # an average of the weights looks through the same network


def test_who_encodes_and_decodes_reads_no_frozen_network() -> None:
    def refused() -> nn.Module:
        raise AssertionError("was read")

    method, plain, x = made(perceptual=Perceptual(refused)), made(), batch(0, 8).images
    assert torch.equal(method.reconstruct(x), plain.reconstruct(x))
    assert torch.equal(method.bound(batch(0, 8), KEYS).total, plain.bound(batch(0, 8), KEYS).total)
    with pytest.raises(AssertionError, match="was read"):
        method.loss(batch(0, 8), KEYS)


def test_reconstructions_do_not_depend_on_the_batch() -> None:
    method, x = made(), batch(0, 8).images
    whole = method.reconstruct(x)
    assert torch.equal(method.reconstruct(x[[6, 2]]), whole[[6, 2]])
    assert -1 <= float(whole.min()) < float(whole.max()) <= 1


def test_reconstructions_are_the_same_at_any_scale_of_the_latents() -> None:
    """Calibrated or not, the decoder meets numbers of the size that it was trained on."""
    method, x = made(), batch(0, 8).images
    before, latents = method.reconstruct(x), method.codec.encode(x, None)
    method.codec.scale *= 0.25
    torch.testing.assert_close(method.reconstruct(x), before)
    torch.testing.assert_close(method.codec.encode(x, None), latents / 4)


def test_in_blocks_a_codec_is_what_it_is() -> None:
    codec, x, noise = made().codec, batch(0, 8).images, Noise(KEYS)
    blocked = Blocked(codec)
    assert (blocked.latent_shape, blocked.scale) == (codec.latent_shape, codec.scale)
    z = codec.encode(x, noise)
    for one, other in (
        (blocked.encode(x, noise), z),
        (blocked.encode(x, None), codec.encode(x, None)),
        (blocked.posterior(x).log_var, codec.posterior(x).log_var),
        (blocked.decode(z), codec.decode(z)),
        (blocked.log_likelihood(x, z), codec.log_likelihood(x, z)),
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_the_bound_is_one_on_grey_levels_and_falls_in_training() -> None:
    """An untrained codec says less than a uniform choice of levels; a trained one more."""
    method, data = made(Weights(adversarial_from=10**9), channels=8), batch(0, 16)
    smooth = torch.linspace(-1, 1, LEVELS)[(torch.arange(16) % LEVELS)][:, None, None, None].expand(16, *SHAPE)
    data = Batch(smooth.contiguous(), None, data.ordinals, data.keys)
    keys, uniform = Keys.range(5, 0, 16), 64 * math.log(LEVELS)
    before = method.bound(data, keys).total
    optimiser = torch.optim.AdamW(method.parameters(), lr=1e-2)
    losses = []
    for step in range(80):  # after 40 it is half-way, and where exactly is decided by the last digit
        optimiser.zero_grad()
        loss = method.loss(data, Keys.range(step, 0, 16)).total.mean()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    after = method.bound(data, keys)
    assert float(before.mean()) > 0
    assert float(after.reconstruction.mean()) < 0.6 * uniform
    assert losses[-1] < 0.4 * losses[0]
    assert float((method.reconstruct(data.images) - data.images).abs().mean()) < 0.12


@pytest.mark.parametrize("part", ["prior", "diffusion", "reconstruction"])
def test_the_bound_is_of_each_image_alone(part: str) -> None:
    method = made()
    whole, some = method.bound(batch(0, 4), Keys.range(5, 0, 4)), method.bound(batch(1, 3), Keys.range(5, 1, 3))
    torch.testing.assert_close(getattr(some, part), getattr(whole, part)[1:3], rtol=1e-4, atol=1e-3)
