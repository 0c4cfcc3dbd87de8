"""The classifier of noisy images: it learns, all of it, and it knows the noise."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from langevin.networks.classifier import AttentionPool, NoisyClassifier


def awake(module: nn.Module) -> nn.Module:
    """The module with random numbers where it starts with zeros."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return module


def classifier(
    shape: tuple[int, int, int] = (1, 8, 8), multipliers: Sequence[int] = (1, 2), attention: Sequence[int] = (4,)
) -> NoisyClassifier:
    torch.manual_seed(0)
    return NoisyClassifier(shape, 16, multipliers, 1, attention, 10)


def images(count: int, shape: tuple[int, int, int] = (1, 8, 8)) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(2))


NOISE = torch.tensor([0.1, 0.4, 0.7, 1.0])


@pytest.mark.parametrize(
    ("shape", "multipliers", "attention"),
    [((1, 8, 8), (1, 2), (4,)), ((3, 16, 16), (1, 2, 2), ()), ((2, 7, 5), (1, 2), (7, 4)), ((1, 8, 8), (1,), (8,))],
)
def test_gradient_reaches_every_parameter(
    shape: tuple[int, int, int], multipliers: Sequence[int], attention: Sequence[int]
) -> None:
    network = awake(classifier(shape, multipliers, attention))
    logits = network(images(4, shape), NOISE)
    assert logits.shape == (4, 10)
    cross_entropy(logits, torch.tensor([0, 3, 9, 1])).backward()
    still = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def test_it_learns_64_random_labels_by_heart() -> None:
    network, x, noise = classifier(), images(64), torch.full((64,), 0.3)
    labels = torch.randint(10, (64,), generator=torch.Generator().manual_seed(3))
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(80):
        optimiser.zero_grad()
        cross_entropy(network(x, noise), labels).backward()
        optimiser.step()
    assert torch.equal(network(x, noise).argmax(1), labels)


def test_it_can_answer_by_the_noise_alone() -> None:
    """Labels that depend on nothing but the noise level: images that are equal, ten levels, ten classes."""
    network, x = classifier(), images(1).expand(10, -1, -1, -1)
    noise, labels = torch.linspace(0.05, 0.95, 10), torch.arange(10)
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(80):
        optimiser.zero_grad()
        cross_entropy(network(x, noise), labels).backward()
        optimiser.step()
    assert torch.equal(network(x, noise).argmax(1), labels)


def test_a_sample_does_not_depend_on_its_neighbours() -> None:
    network = awake(classifier())
    whole = network(images(4), NOISE)
    for index in range(4):
        alone = network(images(4)[index : index + 1], NOISE[index : index + 1])
        torch.testing.assert_close(alone, whole[index : index + 1], rtol=1e-4, atol=1e-5)


def test_its_gradient_reaches_every_pixel() -> None:
    """What guidance uses: d log p(y | x) / dx."""
    network, x = awake(classifier()), images(4).requires_grad_()
    log_p = network(x, NOISE).log_softmax(1)[torch.arange(4), torch.tensor([0, 3, 9, 1])]
    (gradient,) = torch.autograd.grad(log_p.sum(), x)
    assert bool(gradient.all())


def test_the_pool_is_attention_of_the_mean_written_out() -> None:
    pool = AttentionPool(8, 6, 5)
    h = images(2, (8, 2, 3))
    pixels = h.flatten(2).transpose(1, 2)
    tokens = torch.cat([pixels.mean(1, keepdim=True), pixels], dim=1) + pool.positions
    logits = (pool.query(tokens[:, :1]) @ pool.key(tokens).transpose(1, 2)) / 8**0.5
    expected = pool.out((torch.softmax(logits, dim=-1) @ pool.value(tokens))[:, 0])
    torch.testing.assert_close(pool(h), expected, rtol=1e-4, atol=1e-5)


def test_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 classes, found 1"):
        NoisyClassifier((1, 8, 8), 8, (1,), 1, (), 1)
