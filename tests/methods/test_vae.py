"""The VAE as a model: what it is trained by, draws, bounds, and what its latents show. Its laws are in laws/test_vae.py."""

from __future__ import annotations

import pytest
import torch

from langevin.methods.vae import VAE, Plane, spherical, vae
from langevin.protocols import Adapts, Bounded, Samples, Trainable
from langevin.randomness import Keys

from .examples import CLASSES, LEVELS, SHAPE, batch, many

KEYS, LABELS = Keys.range(5, 0, 8), torch.arange(8)


def made(dims: int = 3, dropped: float = 0.0, channels: int = 16) -> VAE:
    torch.manual_seed(0)
    return vae(SHAPE, LEVELS, dims=dims, channels=channels, multipliers=(1, 2), classes=CLASSES, dropped=dropped)


def test_it_is_what_the_platform_asks_for() -> None:
    method = made()
    assert all(isinstance(method, protocol) for protocol in (Trainable, Samples, Bounded))
    assert not isinstance(method, Adapts)


def test_gradient_reaches_every_parameter() -> None:
    method = made(dropped=0.1)
    method.loss(batch(0, 32), Keys.range(5, 0, 32)).total.mean().backward()
    assert [name for name, p in method.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_the_loss_is_the_bound_where_no_class_is_dropped() -> None:
    method = made()
    losses, bound = method.loss(batch(0, 8), KEYS), method.bound(batch(0, 8), KEYS)
    torch.testing.assert_close(losses.total.detach(), bound.total)
    torch.testing.assert_close(losses.terms["kl"], bound.prior)
    torch.testing.assert_close(losses.terms["reconstruction"], bound.reconstruction)
    part = method.loss(batch(2, 5), Keys.range(5, 2, 5)).total
    torch.testing.assert_close(part, losses.total[2:5], rtol=1e-4, atol=1e-3)


def test_classes_are_dropped_with_their_probability() -> None:
    """Grey images: what differs is the class, and whether it is there."""
    method, count = made(dropped=0.3), 400
    torch.nn.init.constant_(method.codec.encoder.dense.weight, 0)  # type: ignore[union-attr]
    told = []
    method.codec.encoder.register_forward_pre_hook(lambda module, given: told.append(given[1]))
    method.loss(many(count), Keys.range(5, 0, count))
    gone = told[0] == -1
    assert float(gone.float().mean()) == pytest.approx(0.3, abs=4 * (0.21 / count) ** 0.5)


def test_classes_matter_and_none_is_minus_one() -> None:
    method = made()
    torch.testing.assert_close(method.sample(KEYS, None), method.sample(KEYS, torch.full((8,), -1)))
    assert not torch.allclose(method.sample(KEYS, LABELS), method.sample(KEYS, LABELS + 1), atol=1e-3)


def test_a_sample_does_not_depend_on_its_batch_and_is_the_walks_end() -> None:
    method = made()
    whole = method.sample(KEYS, LABELS)
    assert torch.equal(method.sample(Keys(5, torch.tensor([6, 2])), LABELS[[6, 2]]), whole[[6, 2]])
    *_, last = method.walk(KEYS, LABELS)
    assert torch.equal(last.detach().clamp(-1, 1), whole)
    assert whole.shape == (8, *SHAPE)


def test_it_learns_images_and_tells_its_own_from_others() -> None:
    method, keys = made(channels=8), Keys.range(9, 0, 10)
    data, other = batch(0, 10), batch(10, 20)
    shades = torch.linspace(-1, 1, LEVELS)[torch.arange(10) + 3].reshape(-1, 1, 1, 1).expand(-1, *SHAPE)
    data = type(data)(shades.contiguous(), data.labels, data.ordinals, data.keys)
    before = method.bound(data, keys).total.mean()
    optimiser = torch.optim.AdamW(method.parameters(), lr=2e-2)
    for step in range(80):
        optimiser.zero_grad()
        method.loss(data, Keys.range(step, 0, 10)).total.mean().backward()
        optimiser.step()
    after = method.bound(data, keys).total.mean()
    assert float(after) < 0.5 * float(before)
    assert float(method.bound(other, keys).total.mean()) > 2 * float(after)
    # images of one shade: each sample is the shade of its class
    drawn = method.sample(keys, data.labels)
    assert float((drawn - data.images).abs().mean()) < 0.25


def test_an_importance_bound_of_one_draw_is_the_plain_one_in_the_mean_and_needs_a_draw() -> None:
    method, count = made(), 400
    data = many(count)
    keys = Keys.range(5, 0, count)
    one, plain = method.importance_bound(data, keys, 1), method.bound(data, keys).total
    error = 4 * float((one.std() ** 2 + plain.std() ** 2).sqrt()) / count**0.5
    assert float(one.mean()) == pytest.approx(float(plain.mean()), abs=error)
    with pytest.raises(ValueError, match="at least one draw, not 0"):
        method.importance_bound(data, keys, 0)


def test_a_grid_of_two_dimensions_is_the_quantiles_of_the_prior() -> None:
    method = made(dims=2)
    grid = method.latent_grid(Plane.whole(), 3, torch.full((9,), 4))
    assert grid.shape == (3, 3, *SHAPE)
    outer = float(torch.special.ndtri(torch.tensor(5 / 6)))
    z = torch.tensor([[-outer, 0.0], [outer, -outer]])
    expected = method.codec.decode(z, torch.tensor([4, 4])).detach().clamp(-1, 1)
    torch.testing.assert_close(torch.stack([grid[0, 1], grid[2, 0]]), expected, rtol=1e-4, atol=1e-5)


def test_the_principal_plane_holds_the_directions_of_the_largest_deviations() -> None:
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(20000, 4, generator=generator) * torch.tensor([0.1, 3.0, 0.2, 1.5]) + 5
    plane = Plane.principal(latents.reshape(-1, 2, 2))
    assert plane.origin.shape == (2, 2)
    axes = plane.axes.flatten(1).abs()
    torch.testing.assert_close(axes, torch.tensor([[0, 3.0, 0, 0], [0, 0, 0, 1.5]]), rtol=0, atol=0.1)
    torch.testing.assert_close(plane.at(torch.tensor([[0.0, 2.0]]))[0], plane.origin + 2 * plane.axes[1])
    assert made(dims=4).latent_grid(Plane.principal(latents), 2).shape == (2, 2, *SHAPE)


def test_an_interpolation_goes_from_one_image_to_the_other() -> None:
    method, x, y = made(), batch(0, 3).images, batch(3, 6).images
    path = method.interpolation(x, y, 5, LABELS[:3])
    assert path.shape == (3, 5, *SHAPE)
    for end, image in ((0, x), (4, y)):
        z = method.codec.encode(image, None, LABELS[:3])
        expected = method.codec.decode(z, LABELS[:3]).detach().clamp(-1, 1)
        torch.testing.assert_close(path[:, end], expected, rtol=1e-3, atol=1e-4)
    straight = method.interpolation(x, y, 3, LABELS[:3], torch.lerp)
    middle = 0.5 * (method.codec.encode(x, None, LABELS[:3]) + method.codec.encode(y, None, LABELS[:3]))
    torch.testing.assert_close(
        straight[:, 1], method.codec.decode(middle, LABELS[:3]).detach().clamp(-1, 1), rtol=1e-3, atol=1e-4
    )


def test_an_arc_keeps_the_length_and_is_a_line_between_equals() -> None:
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.nn.functional.normalize(torch.randn(6, 5, generator=generator)) for _ in range(2))
    for share in (0.0, 0.3, 1.0):
        torch.testing.assert_close(spherical(a, b, share).norm(dim=1), torch.ones(6))
    torch.testing.assert_close(spherical(a, b, 0.0), a)
    torch.testing.assert_close(spherical(a, b, 1.0), b)
    torch.testing.assert_close(spherical(a, a, 0.4), a)
    torch.testing.assert_close(spherical(a, 3 * a, 0.5), 2 * a, rtol=1e-3, atol=1e-3)
