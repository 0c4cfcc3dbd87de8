"""Autoregressive diffusion as a method: of images, by digits, of texts."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from langevin.errors import DataError
from langevin.methods.ardm import ARDM, Drawing, TextARDM, TokenDiffusion
from langevin.networks.tokens import TokenTransformer, TokenUNet, token_channels
from langevin.networks.unet import UNet
from langevin.protocols import Adapts, Batch, Bounded, Samples, Trainable
from langevin.randomness import Keys

LEVELS, LENGTH, COUNT = 5, 6, 7
SHAPE = (2, 2, 4)
D = math.prod(SHAPE)
LABELS = torch.arange(COUNT) % 3


def awake(method: Any) -> Any:
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return method


def images(base: int | None = None, **more: Any) -> ARDM:
    torch.manual_seed(0)
    inside, outside = token_channels(SHAPE[0], base or LEVELS)
    unet = UNet(SHAPE, 8, (1, 2), 1, (2,), classes=3, channels_in=inside, channels_out=outside)
    method: ARDM = awake(ARDM(TokenUNet(unet, LEVELS, base), SHAPE, LEVELS, base=base, calls=5, **more))
    return method


def texts(**more: Any) -> TextARDM:
    torch.manual_seed(0)
    network = TokenTransformer(LENGTH, 16, 2, 2, conditions=3)
    method: TextARDM = awake(TextARDM(network, (LENGTH,), 256, calls=5, **more))
    return method


def batch(count: int = COUNT) -> Batch:
    generator = torch.Generator().manual_seed(1)
    levels = torch.randint(0, LEVELS, (count, *SHAPE), generator=generator)
    captions = torch.randint(97, 123, (count, LENGTH), generator=generator)
    captions[:, 4:] = 0
    ordinals = torch.arange(count)
    return Batch(levels / 2 - 1, ordinals % 3, ordinals, tuple(map(str, range(count))), captions)


METHODS = {"images": images, "digits": lambda **more: images(2, **more), "texts": texts}
every = pytest.mark.parametrize("name", METHODS)


@every
def test_it_is_all_that_the_platform_asks_for(name: str) -> None:
    """And its gradient reaches every parameter."""
    method = METHODS[name]()
    assert isinstance(method, Trainable)
    assert isinstance(method, Samples)
    assert isinstance(method, Bounded)
    assert isinstance(method, Adapts)
    method.loss(batch(40), Keys.range(5, 0, 40)).total.mean().backward()
    for named, parameter in method.named_parameters():
        assert parameter.grad is not None, named
        assert bool(parameter.grad.any()), named
        assert bool(torch.isfinite(parameter.grad).all()), named


@every
def test_a_sample_and_a_loss_do_not_depend_on_the_batch(name: str) -> None:
    method = METHODS[name](drawing=Drawing(scale=1.5))
    whole = method.sample(Keys.range(2, 0, COUNT), LABELS)
    places = torch.tensor([5, 1])
    assert torch.equal(method.sample(Keys(2, places), LABELS[places]), whole[places])
    losses = method.loss(batch(), Keys.range(2, 0, COUNT))
    part = method.loss(batch()[places], Keys(2, places))
    torch.testing.assert_close(part.total, losses.total[places], rtol=1e-4, atol=1e-4)
    assert torch.equal(part.terms["time"], losses.terms["time"][places])


@every
def test_the_walk_ends_in_the_sample(name: str) -> None:
    method = METHODS[name]()
    keys = Keys.range(2, 0, 3)
    states = list(method.walk(keys, LABELS[:3]))
    assert len(states) == method.step_losses.count + 1
    assert torch.equal(states[-1], method.sample(keys, LABELS[:3]))
    assert states[0].unique().tolist() == [0]  # middle grey, or no byte


@pytest.mark.parametrize("name", ["images", "digits"])
def test_samples_lie_on_the_grey_levels(name: str) -> None:
    sampled = METHODS[name]().sample(Keys.range(2, 0, 20), None)
    assert sampled.shape == (20, *SHAPE)
    assert sampled.dtype == torch.float32
    assert sampled.unique().tolist() == [-1, -0.5, 0, 0.5, 1]


def test_a_pixels_logits_are_its_own_channels() -> None:
    """Channel c K + k of the image's network is class k of colour c; it sees levels in [-1, 1] and the mask."""
    seen = []

    class Stub(nn.Module):
        def forward(self, x: Tensor, noise: Tensor, cond: Tensor | None) -> Tensor:
            seen.append(x)
            return torch.arange(2 * LEVELS * 8).reshape(1, 2 * LEVELS, 2, 4).float().expand(len(x), -1, -1, -1)

    x = torch.arange(3 * D).reshape(3, *SHAPE) % LEVELS
    hidden = x == 0
    logits = TokenUNet(Stub(), LEVELS)(x, hidden, torch.zeros(3), None)
    assert logits.shape == (3, *SHAPE, LEVELS)
    for colour in range(2):
        for k in range(LEVELS):
            assert int(logits[1, colour, 1, 2, k]) == (colour * LEVELS + k) * 8 + 1 * 4 + 2
    torch.testing.assert_close(seen[0][:, :2], x / 2 - 1)
    assert torch.equal(seen[0][:, 2:], hidden.float())


def test_texts_are_bytes() -> None:
    sampled = texts().sample(Keys.range(2, 0, 20), None)
    assert sampled.shape == (20, LENGTH)
    assert sampled.dtype == torch.int64
    assert 0 <= int(sampled.min()) < 50 < 200 < int(sampled.max()) < 256


@pytest.mark.parametrize("levels", [2, 5, 17, 256])
def test_grey_levels_are_the_data_sets(levels: int) -> None:
    """floor((x + 1) / 2 (levels - 1) + 1/2), and back."""
    method = ARDM(nn.Identity(), (1, 1, levels), levels)
    numbers = torch.arange(levels).reshape(1, 1, 1, levels)
    shown = (2 * numbers.double() / (levels - 1) - 1).float()
    plain = replace(batch(1), images=shown)
    assert torch.equal(method.tokens(plain), numbers)
    assert torch.equal(method.tokens(replace(plain, images=shown + 0.9 / (levels - 1))), numbers)


@every
def test_a_network_that_knows_nothing_pays_for_every_token(name: str) -> None:
    """Uniform logits: D log K nats; by digits log 2 for each that may be either, of 0 .. 4."""
    method = METHODS[name]()
    last = method.network.unet.head if hasattr(method.network, "unet") else method.network.head
    with torch.no_grad():
        for parameter in last.parameters():
            parameter.zero_()
    method.calls = method.step_losses.count
    data = batch()
    bound = method.bound(data, Keys.range(1, 0, COUNT))
    assert not bound.prior.any()
    assert not bound.reconstruction.any()
    each = {"images": D * math.log(LEVELS), "texts": LENGTH * math.log(256)}
    if name == "digits":  # 4 = 100 is the only one that begins with 1, and then is sure; 1 + 2 digits of two otherwise
        top = (method.tokens(data) == 4).flatten(1).sum(1)
        assert torch.equal(bound.total < 3 * D * math.log(2) - 1e-6, top > 0)
        # its expectation over orders is exact here, since no logit depends on another token
        torch.testing.assert_close(bound.total, (top + 3 * (D - top)).double() * math.log(2), rtol=0.15, atol=0)
    else:
        torch.testing.assert_close(bound.total, torch.full_like(bound.total, each[name]))
        losses = method.loss(data, Keys.range(1, 0, COUNT))
        dims = D if name == "images" else LENGTH
        torch.testing.assert_close(losses.total, bound.total / dims / math.log(2))


def test_bits_per_character_count_the_end_above_and_not_below() -> None:
    """Four bytes and two zeros a text: 6 tokens of 8 bits over 4 characters."""
    method = texts()
    with torch.no_grad():
        for parameter in method.network.head.parameters():
            parameter.zero_()
    assert method.bits_per_character(batch(), Keys.range(1, 0, COUNT)) == pytest.approx(6 * 8 / 4)


def test_texts_are_cut_and_filled() -> None:
    method, data = texts(), batch()
    assert data.captions is not None
    wide = torch.cat([data.captions, data.captions], dim=1)
    assert torch.equal(method.tokens(replace(data, captions=wide)), data.captions)
    narrow = method.tokens(replace(data, captions=data.captions[:, :2]))
    assert torch.equal(narrow[:, :2], data.captions[:, :2])
    assert not narrow[:, 2:].any()
    with pytest.raises(DataError, match="captions"):
        method.tokens(replace(data, captions=None))


class Recorder(nn.Module):
    """A network without weights that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[Tensor, Tensor, Tensor, Tensor | None]] = []

    def forward(self, x: Tensor, hidden: Tensor, noise: Tensor, cond: Tensor | None) -> Tensor:
        self.told.append((x, hidden, noise, cond))
        return torch.zeros(*x.shape, LEVELS)


def test_the_network_sees_known_tokens_and_is_told_the_class_in_its_share() -> None:
    method = ARDM(Recorder(), SHAPE, LEVELS, dropped=0.25)
    data = batch(2000)
    method.loss(data, Keys.range(1, 0, 2000))
    x, hidden, noise, cond = method.network.told[0]
    assert torch.equal(x, method.tokens(data).masked_fill(hidden, 0))
    assert cond is not None
    assert float((cond == -1).float().mean()) == pytest.approx(0.25, abs=0.04)
    assert torch.equal(cond[cond >= 0], data.labels[cond >= 0])
    torch.testing.assert_close(noise, 1 - hidden.flatten(1).float().mean(1))
    method.bound(data[:10], Keys.range(1, 0, 10))
    assert len(method.network.told) == 1 + 32
    assert torch.equal(method.network.told[-1][3], data.labels[:10])


def test_a_policy_follows_from_what_training_met() -> None:
    """The losses are in the state, and samples by a budget need as many calls."""
    method = ARDM(Recorder(), SHAPE, LEVELS, drawing=Drawing(4))
    step = torch.arange(D)
    falling = torch.where(step < 8, 2.0, 0.5)
    method.adapt(step, {"time": step.double() / D, "step_loss": falling})
    starts, cost = method.policy(2)
    assert starts == (0, 8)
    assert cost == pytest.approx(8 * 2 + (D - 8) * 0.5)
    fresh = ARDM(Recorder(), SHAPE, LEVELS, drawing=Drawing(4))
    fresh.load_state_dict(method.state_dict())
    assert fresh.starts() == method.starts()
    assert len(fresh.starts()) == 4
    list(fresh.walk(Keys.range(0, 0, 2), None))
    assert len(fresh.network.told) == 4
    given = ARDM(Recorder(), SHAPE, LEVELS, drawing=Drawing((0, 5)))
    list(given.walk(Keys.range(0, 0, 2), None))
    assert [int((noise[0] * D).round()) for _, _, noise, _ in given.network.told] == [0, 5]


@every
def test_training_teaches_the_policy(name: str) -> None:
    method = METHODS[name](drawing=Drawing(3))
    losses = method.loss(batch(100), Keys.range(5, 0, 100))
    method.adapt(torch.arange(100), losses.terms)
    assert int(method.step_losses.seen.sum()) == 100
    expected = losses.terms["step_loss"][losses.terms["time"] == 0].mean()
    torch.testing.assert_close(method.step_losses.known()[0], expected)
    starts, cost = method.policy(3)
    assert method.starts() == starts
    bound = method.parallel_bound(batch(), Keys.range(1, 0, COUNT))
    assert float(bound.mean()) == pytest.approx(cost, rel=0.35)
    assert method.sample(Keys.range(1, 0, 2), None).shape[0] == 2


def test_the_tokens_of_a_method_are_its_own() -> None:
    method = TokenDiffusion(nn.Identity(), (3,), 4)
    with pytest.raises(NotImplementedError):
        method.tokens(batch())


def test_it_learns_what_tokens_have_in_common() -> None:
    """Texts of one repeated letter: after the first token all others are sure."""
    torch.manual_seed(0)
    method = TextARDM(TokenTransformer(4, 24, 2, 2, levels=4), (4,), 4, calls=4)
    letters = torch.arange(64) % 4
    data = replace(batch(64), captions=letters[:, None].expand(64, 4).contiguous(), labels=None)
    optimiser = torch.optim.Adam(method.parameters(), 1e-2)
    for step in range(120):
        optimiser.zero_grad()
        method.loss(data, Keys.range(step, 0, 64)).total.mean().backward()
        optimiser.step()
    nats = float(method.bound(data, Keys.range(9, 0, 64)).total.mean())
    assert math.log(4) - 1e-3 < nats < math.log(4) + 0.1
    sampled = method.sample(Keys.range(3, 0, 100), None)
    assert float((sampled == sampled[:, :1]).all(dim=1).float().mean()) > 0.95
    assert len(sampled[:, 0].unique()) == 4
