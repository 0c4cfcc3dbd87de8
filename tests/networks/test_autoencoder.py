"""Encoder, decoder and discriminator: all of them learns, and an image is judged by itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_unshuffle, relu

from langevin.networks.autoencoder import Decoder, Encoder, FromVector, ToVector
from langevin.networks.discriminator import PatchDiscriminator

from .test_classifier import awake

SHAPE = (1, 8, 8)


def pair(attends: bool = True, classes: int = 0) -> tuple[Encoder, Decoder]:
    torch.manual_seed(0)
    arguments = (SHAPE, 2, 16, (1, 2), 1, attends, classes)
    return Encoder(*arguments), Decoder(*arguments)


def images(count: int, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(2))


def still(*networks: nn.Module) -> list[str]:
    return [name for net in networks for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]


def test_64_pixels_become_16_and_64_again() -> None:
    torch.manual_seed(0)
    encoder, decoder = Encoder((3, 64, 64), 4, 8), Decoder((3, 64, 64), 4, 8)
    parameters = encoder(images(2, (3, 64, 64)))
    assert encoder.latent_shape == decoder.latent_shape == (4, 16, 16)
    assert parameters.shape == (2, 8, 16, 16)
    assert decoder(parameters[:, :4]).shape == (2, 3, 64, 64)


@pytest.mark.parametrize("classes", [0, 5])
@pytest.mark.parametrize("dense", [False, True])
def test_gradient_reaches_every_parameter(dense: bool, classes: int) -> None:
    one, other = pair(classes=classes)
    encoder, decoder = (ToVector(one, 3), FromVector(other, 3)) if dense else (one, other)
    awake(encoder), awake(decoder)
    labels = torch.tensor([0, 1, 2, 3, 4, -1]) if classes else None
    mean, _ = (out := encoder(images(6), labels)).chunk(2, dim=1)
    (decoder(mean, labels).square().mean() + out.square().mean()).backward()
    assert still(encoder, decoder) == []


def test_a_pair_learns_images_by_heart_through_a_small_latent() -> None:
    encoder, decoder = pair(attends=False)
    x = torch.tanh(images(8))
    optimiser = torch.optim.AdamW([*encoder.parameters(), *decoder.parameters()], lr=5e-3)
    for _ in range(60):
        optimiser.zero_grad()
        loss = (decoder(encoder(x)[:, :2]) - x).square().mean()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.2 * float(x.var())


def test_classes_matter_and_none_is_minus_one() -> None:
    encoder, decoder = pair(classes=5)
    x, z = images(2), torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    for network, given in ((encoder, x), (decoder, z)):
        torch.testing.assert_close(network(given, None), network(given, torch.tensor([-1, -1])))
        assert not torch.allclose(network(given, torch.tensor([1, 1])), network(given, torch.tensor([2, 2])), atol=1e-4)


def test_a_sample_does_not_depend_on_its_neighbours() -> None:
    encoder, decoder = pair()
    discriminator = PatchDiscriminator((1, 16, 16), 8, 2)
    for network, given in (
        (encoder, images(4)),
        (lambda x: decoder(encoder(x)[:, :2]), images(4)),
        (discriminator, images(4, (1, 16, 16))),
    ):
        torch.testing.assert_close(network(given)[2:3], network(given[2:3]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("patch", "colours"), [(2, 1), (4, 3)])
def test_a_patch_is_the_same_networks_on_the_unshuffled_image(patch: int, colours: int) -> None:
    """Squares of patch x patch pixels as channels of a smaller image: the same weights, to the last bit."""
    torch.manual_seed(0)
    whole, small = (colours, 16, 16), (colours * patch**2, 16 // patch, 16 // patch)
    x = images(3, whole)
    encoder, plain = (Encoder(shape, 2, 8, (1, 2), patch=p) for shape, p in ((whole, patch), (small, 1)))
    plain.load_state_dict(encoder.state_dict())
    assert encoder.latent_shape == plain.latent_shape == (2, 8 // patch, 8 // patch)
    assert torch.equal(encoder(x), plain(pixel_unshuffle(x, patch)))
    decoder, plain = (Decoder(shape, 2, 8, (1, 2), patch=p) for shape, p in ((whole, patch), (small, 1)))
    plain.load_state_dict(decoder.state_dict())
    z = images(3, decoder.latent_shape)
    assert torch.equal(pixel_unshuffle(decoder(z), patch), plain(z))
    assert decoder(z).shape == x.shape


@pytest.mark.parametrize("network", [Encoder, Decoder])
def test_a_patch_that_does_not_divide_is_refused(network: type[nn.Module]) -> None:
    with pytest.raises(ValueError, match="8 x 8 pixels cannot be made 6 times smaller"):
        network(SHAPE, 2, 8, (1, 2), patch=3)


@pytest.mark.parametrize("network", [Encoder, Decoder])
def test_sides_that_do_not_halve_are_refused(network: type[nn.Module]) -> None:
    with pytest.raises(ValueError, match=r"6 x 8 pixels cannot be made 4 times smaller"):
        network((1, 6, 8), 2, 8, (1, 1, 1))


def test_a_patch_of_three_halvings_is_70_pixels_wide() -> None:
    """Without norms, which see the whole image. Isola et al. 2017, appendix 6.1.2."""
    discriminator = PatchDiscriminator((1, 128, 128), 4, 3).double()
    layers = [nn.Identity() if isinstance(layer, nn.GroupNorm) else layer for layer in discriminator.layers]
    x = images(1, (1, 128, 128)).double().requires_grad_()
    judged = nn.Sequential(*layers)(x)
    (gradient,) = torch.autograd.grad(judged[0, 0, 7, 7], x)
    touched = gradient[0, 0].abs().sum(0).nonzero()[:, 0]
    assert int(touched.max() - touched.min()) + 1 == 70


def test_the_discriminator_learns_all_of_it_to_tell_noise_from_smooth_images() -> None:
    torch.manual_seed(0)
    discriminator = PatchDiscriminator((1, 16, 16), 8, 2)
    noise = images(32, (1, 16, 16))
    smooth = images(32, (1, 2, 2)).repeat_interleave(8, 2).repeat_interleave(8, 3)
    optimiser = torch.optim.AdamW(discriminator.parameters(), lr=2e-3)
    discriminator(noise).mean().backward()
    assert still(discriminator) == []
    for _ in range(30):
        optimiser.zero_grad()
        loss = relu(1 - discriminator(smooth)).mean() + relu(1 + discriminator(noise)).mean()
        loss.backward()
        optimiser.step()
    scores = [discriminator(x).detach().flatten(1).mean(1) for x in (smooth, noise)]
    assert float(scores[0].min()) > 0 > float(scores[1].max())


def test_too_many_halvings_are_refused() -> None:
    with pytest.raises(ValueError, match="3 halvings leave no patch of 16 x 16 pixels"):
        PatchDiscriminator((1, 16, 16), 8, 3)
