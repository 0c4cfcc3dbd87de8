"""What the platform relies on, of every method: losses, samples and bounds that are functions of weights, batch and keys."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from langevin.protocols import Adapts, Bounded, Samples, Trainable
from langevin.randomness import Keys

from .examples import CLASSES, EXAMPLES, SHAPE, batch, made, many, recording

DRAWN = {"edm": 80.0, "edm2": 80.0, "score_sde ve": 50.0}  # deviations at t = 1 other than 1
every = pytest.mark.parametrize("name", EXAMPLES)


@every
def test_it_is_all_that_the_platform_asks_for(name: str) -> None:
    method = made(name)
    assert isinstance(method, Trainable)
    assert isinstance(method, Samples)
    assert isinstance(method, Bounded)
    assert isinstance(method, Adapts) == (name == "improved_ddpm")


@every
def test_losses_are_a_function_of_weights_batch_and_keys(name: str) -> None:
    """Parts of a batch have the same losses, sample by sample, whatever the global generator does."""
    method = made(name)
    whole = method.loss(batch(0, 9), Keys.range(5, 0, 9))
    torch.manual_seed(77)
    parts = [method.loss(batch(a, b), Keys.range(5, a, b)) for a, b in ((0, 4), (4, 9))]
    torch.testing.assert_close(torch.cat([part.total for part in parts]), whole.total, rtol=1e-4, atol=1e-5)
    for term, values in whole.terms.items():
        assert not values.requires_grad
        torch.testing.assert_close(torch.cat([part.terms[term] for part in parts]), values, rtol=1e-4, atol=1e-5)
    other = method.loss(batch(0, 9), Keys.range(6, 0, 9)).total
    assert not torch.allclose(other, whole.total, rtol=1e-2)


@every
def test_gradient_reaches_every_parameter(name: str) -> None:
    method = made(name)
    method.loss(batch(0, 32), Keys.range(5, 0, 32)).total.mean().backward()
    still = [name for name, p in method.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []
    assert all(bool(torch.isfinite(p.grad).all()) for p in method.parameters())


@every
def test_a_sample_does_not_depend_on_its_batch(name: str) -> None:
    method = made(name)
    labels = torch.arange(4)
    whole = method.sample(Keys.range(3, 100, 104), labels)
    assert (whole.shape, whole.dtype) == ((4, *SHAPE), torch.float32)
    assert -1 <= float(whole.min()) < float(whole.max()) <= 1
    some = [3, 1]
    part = method.sample(Keys(3, torch.tensor([100 + i for i in some])), labels[some])
    assert torch.equal(part, whole[some])  # bit for bit
    assert float((whole[:2] - whole[2:]).abs().max()) > 0.1  # and samples differ


@every
def test_the_walk_starts_at_the_prior_and_ends_at_the_sample(name: str) -> None:
    method = made(name)
    keys, labels = Keys.range(3, 0, 2), torch.arange(2)
    with torch.no_grad():
        states = list(method.walk(keys, labels))
        start = next(method.walk(Keys.range(3, 0, 500), torch.zeros(500, dtype=torch.int64)))
    torch.testing.assert_close(start[:2], states[0], rtol=0, atol=0)
    assert torch.equal(states[-1].clamp(-1, 1), method.sample(keys, labels))
    assert all(bool(torch.isfinite(state).all()) for state in states)
    count, start = start.numel(), start / DRAWN.get(name, 1.0)
    if name.startswith("ncsn"):  # from uniform pixels
        assert -1 <= float(start.min()) < -0.99 < 0.99 < float(start.max()) <= 1
        assert float(start.var()) == pytest.approx(1 / 3, abs=4 * (4 / 45 / count) ** 0.5)
    else:
        assert float(start.var()) == pytest.approx(1, abs=4 * (2 / count) ** 0.5)
    assert float(start.mean()) == pytest.approx(0, abs=4 / count**0.5)


@pytest.mark.parametrize("name", ["ncsn", "ncsnv2", "score_sde", "score_sde ve", "edm", "edm2", "vdm"])
def test_where_the_grid_ends_in_noise_the_walk_still_ends_at_the_data(name: str) -> None:
    """By one look of the denoiser; where it ends at the data by none."""
    method = made(name)
    keys, labels = Keys.range(3, 0, 4), torch.arange(4)
    with torch.no_grad():
        *_, before, last = states = list(method.walk(keys, labels))
        model, _ = method.drawn_by()
        assert torch.equal(last, model(before, method.sampling.grid[-1], labels).x0)
    assert len(states) == len(method.sampling.grid) + 1
    clean = made("ddpm")
    assert len(list(clean.walk(keys, labels))) == len(clean.sampling.grid)


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name != "guided"])
def test_conditions_are_dropped_with_their_probability(name: str) -> None:
    dropped, count = 0.3, 1000
    method = made(name, {"condition_dropout": dropped})
    recorder, data = recording(method), many(count)
    method.loss(data, Keys.range(5, 0, count))
    ((_, _, cond),) = recorder.told
    assert cond is not None
    gone = cond == -1
    assert float(gone.float().mean()) == pytest.approx(dropped, abs=4 * (dropped * (1 - dropped) / count) ** 0.5)
    assert data.labels is not None
    assert torch.equal(cond[~gone], data.labels[~gone])
    by_class = torch.stack([gone[data.labels == label].float().mean() for label in range(CLASSES)])
    assert float((by_class - dropped).abs().max()) <= 4.5 * (dropped * (1 - dropped) * CLASSES / count) ** 0.5


@every
def test_a_bound_is_finite_and_of_each_image_alone(name: str) -> None:
    method = made(name)
    whole, part = (method.bound(batch(a, 3), Keys.range(2, a, 3)) for a in (0, 1))
    for bound in ("prior", "diffusion", "reconstruction"):
        values = getattr(whole, bound)
        assert values.shape == (3,)
        assert not values.requires_grad
        assert bool(torch.isfinite(values).all())
        torch.testing.assert_close(getattr(part, bound), values[1:], rtol=1e-3, atol=1e-2)
    again = method.bound(batch(0, 3), Keys.range(2, 0, 3)).total
    assert torch.equal(again, whole.total)
    assert not torch.allclose(method.bound(batch(0, 3), Keys.range(3, 0, 3)).total, whole.total, rtol=1e-4)


@pytest.mark.parametrize("name", ["guided", *(name for name in EXAMPLES if name != "guided")])
def test_classes_matter(name: str) -> None:
    method = made(name)
    keys = Keys.range(3, 0, 2)
    zeros, ones = torch.zeros(2, dtype=torch.int64), torch.ones(2, dtype=torch.int64)
    assert not torch.allclose(method.sample(keys, zeros), method.sample(keys, ones), atol=1e-4)


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name != "guided"])
def test_guidance_goes_from_no_class_over_the_class_and_further(name: str) -> None:
    keys, labels = Keys.range(3, 0, 2), torch.arange(2)
    without, plain, further = (made(name, guidance=scale) for scale in (0.0, 1.0, 2.5))
    torch.testing.assert_close(without.sample(keys, labels), plain.sample(keys, None))
    torch.testing.assert_close(without.sample(keys, labels), plain.sample(keys, torch.full((2,), -1)))
    assert not torch.allclose(plain.sample(keys, labels), further.sample(keys, labels), atol=1e-4)


@every
def test_a_copy_shares_nothing_with_the_original(name: str) -> None:
    """An average of the weights is one: whatever its parts hold on to must have come along and must be registered."""
    method = made(name).eval()  # networks that keep their weights' magnitudes do so in training
    twin = copy.deepcopy(method)
    for one in (method, twin):
        assert _modules_within(one) == {id(module) for module in one.modules()}
    assert not _modules_within(method) & _modules_within(twin)
    keys, labels, data = Keys.range(3, 0, 2), torch.arange(2), batch(0, 2)
    sample, bound, loss = twin.sample(keys, labels), twin.bound(data, keys).total, twin.loss(data, keys).total
    with torch.no_grad():
        for tensor in method.state_dict().values():
            tensor.zero_()
    assert torch.equal(twin.sample(keys, labels), sample)
    assert torch.equal(twin.bound(data, keys).total, bound)
    assert torch.equal(twin.loss(data, keys).total, loss)


def _modules_within(root: Any) -> set[int]:
    """The modules that are reached through attributes, registered ones or not."""
    found: set[int] = set()
    seen: dict[int, Any] = {}  # kept alive: an id is a name only as long as its object lives
    todo: list[Any] = [root]
    while todo:
        one = todo.pop()
        if id(one) in seen or isinstance(one, torch.Tensor | type | str):
            continue
        seen[id(one)] = one
        if isinstance(one, nn.Module):
            found.add(id(one))
        if isinstance(one, dict):
            todo += one.values()
        elif isinstance(one, list | tuple):
            todo += one
        elif hasattr(one, "__dict__"):
            todo += vars(one).values()
    return found
