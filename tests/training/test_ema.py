"""Averages: of the parameters, and of no buffers but those by which a model draws its samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from langevin.discrete.policy import optimal_policy
from langevin.errors import ConfigError
from langevin.methods.ardm import ARDM, Drawing
from langevin.networks.tokens import TokenUNet, token_channels
from langevin.networks.unet import UNet
from langevin.randomness import Keys
from langevin.training import checkpoint as checkpoints
from langevin.training.ema import EMA, PowerEMA
from langevin.training.loop import fit

from .example import BATCH, SHAPE, Diary, adapting, fresh, plan, stream

LEVELS = 5


def autoregressive(seed: int = 0, channels: int = 8) -> Any:
    """Of the same images on few grey levels, drawn in four calls."""
    torch.manual_seed(seed)
    inside, outside = token_channels(SHAPE[0], LEVELS)
    unet = UNet(SHAPE, channels, (1, 2), 1, (), 3, channels_in=inside, channels_out=outside)
    return ARDM(TokenUNet(unet, LEVELS, LEVELS), SHAPE, LEVELS, drawing=Drawing(4), calls=4)


def test_the_average_of_an_autoregressive_model_knows_its_losses(tmp_path: Path) -> None:
    """So it samples at the best steps, and so does what is restored from a checkpoint; other lengths of average as well."""
    state = fresh(stds=(0.1,), make=autoregressive)
    fit(state, stream(), plan(6), Diary(tmp_path))
    trained: Any = state.model
    averages: list[Any] = [state.ema.model, *(power.model for power in state.powers)]
    assert int(trained.step_losses.seen.sum()) == 6 * BATCH
    expected = tuple(optimal_policy(trained.step_losses.known(), 4)[0])
    last = checkpoints.latest(tmp_path)
    assert last is not None
    restored = autoregressive(9, 16)
    checkpoints.load_average(last, restored)
    for average in (*averages, restored):
        assert torch.equal(average.step_losses.means, trained.step_losses.means)
        assert torch.equal(average.step_losses.seen, trained.step_losses.seen)
        assert average.starts() == expected
        assert average.sample(Keys.range(1, 0, 2), torch.tensor([0, 2])).shape == (2, *SHAPE)
    for average in averages:  # its weights are averaged none the less
        pairs = zip(average.parameters(), trained.parameters(), strict=True)
        assert not all(torch.equal(mine, theirs) for mine, theirs in pairs)
    with pytest.raises(ConfigError, match="this model has met none"):
        autoregressive().starts()


def test_the_average_of_a_model_that_learns_where_to_look_does_not_follow() -> None:
    """A validation loss is read the same way at every time."""
    state = fresh(make=adapting)
    before = {name: buffer.clone() for name, buffer in state.ema.model.named_buffers()}
    fit(state, stream(), plan(6), Diary())
    moved = {name for name, buffer in state.model.named_buffers() if not torch.equal(buffer, before[name])}
    assert "parts.times.losses" in moved
    assert all(torch.equal(buffer, before[name]) for name, buffer in state.ema.model.named_buffers())


class Counting(nn.Module):
    """A weight, a buffer that counts, and a part that counts too."""

    def __init__(self, followed: bool) -> None:
        super().__init__()
        self.weight, self.part = nn.Parameter(torch.zeros(())), nn.Module()
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.part.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.part.followed = followed  # type: ignore[assignment]


@pytest.mark.parametrize("followed", [False, True])
@pytest.mark.parametrize("kind", [EMA, PowerEMA])
def test_buffers_are_followed_where_their_own_part_says_so(kind: type[Any], followed: bool) -> None:
    model: Any = Counting(followed)
    average: Any = kind(model, 0.1)
    for step in range(1, 4):
        with torch.no_grad():
            model.weight += 1
            model.count += 1
            model.part.count += 1
        average.update(model, *((8 * step,) if kind is PowerEMA else ()))
    assert int(average.model.count) == 0
    assert int(average.model.part.count) == (3 if followed else 0)
    assert 0 < float(average.model.weight) <= 3


def test_a_classic_average_is_the_sum_it_is_said_to_be() -> None:
    """decay_n = min(decay, (1 + n) / (10 + n)): of weights 1, 2, 3 from 0."""
    model: Any = Counting(followed=False)
    average: Any = EMA(model, 0.2)
    expected = 0.0
    for n in (1, 2, 3):
        with torch.no_grad():
            model.weight += 1
        average.update(model)
        decay = min(0.2, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * n
    assert float(average.model.weight) == pytest.approx(expected)
