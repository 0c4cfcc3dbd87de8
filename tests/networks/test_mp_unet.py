"""The magnitude-preserving UNet: magnitude 1 throughout, weights without length, and all of it learns."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from langevin.networks.magnitude import MPWeight
from langevin.networks.mp_unet import DecoderBlock, EncoderBlock, MPUNet, Uncertainty


def awake(network: MPUNet) -> MPUNet:
    """The network with gains of 1 where they start as 0."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 0:
                parameter.fill_(1)
    return network


def unet(
    shape: tuple[int, int, int] = (1, 8, 8),
    channels: int = 8,
    multipliers: Sequence[int] = (1, 2),
    blocks: int = 1,
    attention: Sequence[int] = (4,),
    classes: int = 10,
) -> MPUNet:
    torch.manual_seed(0)
    return MPUNet(shape, channels, multipliers, blocks, attention, classes)


def images(count: int, shape: tuple[int, int, int] = (1, 8, 8)) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(2))


NOISE, LABELS = torch.tensor([-1.5, -0.4, 0.2, 1.0]), torch.tensor([0, 3, 9, -1])


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((1, 8, 8), {}),
        ((3, 16, 16), {"multipliers": (1, 2, 3), "blocks": 2, "attention": (4, 8)}),
        ((1, 8, 8), {"multipliers": (1,), "attention": ()}),
        ((1, 8, 8), {"channels": 12, "attention": (8,), "classes": 0}),
        ((2, 8, 4), {"channels": 5, "multipliers": (1, 1, 2), "attention": (1, 2)}),
    ],
)
def test_gradient_reaches_every_parameter(shape: tuple[int, int, int], options: dict[str, Any]) -> None:
    network = awake(unet(shape, **options))
    labels = None if options.get("classes") == 0 else LABELS
    output = network(images(4, shape), NOISE, labels)
    assert output.shape == (4, *shape)
    (output * images(8, shape)[4:]).sum().backward()
    still = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


@pytest.mark.parametrize("gain", [0.0, 1.0])
def test_activations_have_magnitude_1_at_every_resolution(gain: float) -> None:
    network = unet((3, 16, 16), channels=32, multipliers=(1, 2, 3), blocks=2, attention=(4, 8))
    seen: dict[int, list[float]] = {}

    def note(module: nn.Module, given: Any, out: Tensor) -> None:
        seen.setdefault(out.shape[-1], []).append(float(out.detach().square().mean().sqrt()))

    for module in network.modules():
        if isinstance(module, EncoderBlock | DecoderBlock):
            module.register_forward_hook(note)
            module.residual.gain.data.fill_(gain)
    network.gain.data.fill_(1)
    out = network(images(16, (3, 16, 16)), torch.linspace(-1.5, 1, 16), torch.arange(16) % 10)
    assert {side: len(found) for side, found in seen.items()} == {16: 2 + 4, 8: 3 + 4, 4: 3 + 5}
    assert all(0.8 < value < 1.25 for found in seen.values() for value in found), seen
    assert 0.7 < float(out.detach().square().mean().sqrt()) < 1.3


def test_it_starts_as_zero() -> None:
    assert not unet()(images(4), NOISE, LABELS).any()


def test_the_length_of_every_stored_weight_means_nothing() -> None:
    network = awake(unet()).eval()
    before = network(images(4), NOISE, LABELS)
    with torch.no_grad():
        for index, module in enumerate(m for m in network.modules() if isinstance(m, MPWeight)):
            module.weight.mul_(0.1 + index)
    torch.testing.assert_close(network(images(4), NOISE, LABELS), before, rtol=1e-3, atol=1e-4)


def test_training_keeps_every_weight_at_unit_magnitude_and_learns() -> None:
    network = unet()
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    x, target = images(4), images(8)[4:]
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = (network(x, NOISE, LABELS) - target).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]
    network(x, NOISE, LABELS)
    for module in network.modules():
        if isinstance(module, MPWeight):
            lengths = module.weight.detach().square().mean(1)
            torch.testing.assert_close(lengths, torch.ones_like(lengths), rtol=1e-4, atol=0)


def test_a_copy_is_the_same_function_and_stays_when_the_original_learns() -> None:
    network = awake(unet())
    copied = copy.deepcopy(network).requires_grad_(False).eval()
    before = copied(images(4), NOISE, LABELS)
    torch.testing.assert_close(before, network(images(4), NOISE, LABELS), rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.ones_like(parameter))
    network(images(4), NOISE, LABELS)
    assert torch.equal(copied(images(4), NOISE, LABELS), before)


def test_a_sample_does_not_depend_on_its_neighbours() -> None:
    network = awake(unet())
    whole = network(images(4), NOISE, LABELS)
    for index in range(4):
        alone = network(images(4)[index : index + 1], NOISE[index : index + 1], LABELS[index : index + 1])
        torch.testing.assert_close(alone, whole[index : index + 1], rtol=1e-4, atol=1e-5)


def test_noise_and_class_matter() -> None:
    network = awake(unet()).eval()
    base = network(images(4), NOISE, LABELS)
    assert not torch.allclose(base, network(images(4), NOISE - 0.01, LABELS), atol=1e-4)
    changed = network(images(4), NOISE, torch.tensor([1, 3, 9, -1]))
    assert not torch.allclose(base[0], changed[0], atol=1e-3)
    torch.testing.assert_close(base[1:], changed[1:])
    torch.testing.assert_close(network(images(4), NOISE, None)[3], base[3])  # None is the class -1


def test_an_input_of_zeros_still_has_an_answer() -> None:
    """The channel of ones stands for the biases that no layer has."""
    network = awake(unet())
    assert float(network(torch.zeros(4, 1, 8, 8), NOISE, LABELS).detach().square().mean().sqrt()) > 0.5


def test_skips_carry_details_past_the_bottleneck() -> None:
    network = awake(unet())
    network.middle[1].register_forward_hook(lambda module, given, out: 0 * out)
    x = images(1).requires_grad_()
    network(x, NOISE[:1], None).square().sum().backward()
    assert x.grad is not None
    assert bool(x.grad.all())


def test_a_narrow_skip_connection_counts_as_much_as_a_wide_main_path() -> None:
    network = unet((1, 16, 16), channels=16, multipliers=(1, 4))
    given: list[Tensor] = []
    network.decoder[1][0].register_forward_pre_hook(lambda module, inputs: given.append(inputs[0].detach()))
    network(images(4, (1, 16, 16)), NOISE, LABELS)
    main, skip = given[0].split([64, 16], dim=1)
    assert float(skip.square().sum() / main.square().sum()) == pytest.approx(1, abs=0.3)


def test_it_runs_in_bfloat16() -> None:
    network = awake(unet())
    exact = network(images(4), NOISE, LABELS).detach()
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(images(4), NOISE, LABELS).detach()
    assert float((rough.float() - exact).square().mean().sqrt()) < 0.1 * float(exact.square().mean().sqrt())


def test_images_that_cannot_be_halved_are_refused_with_their_size() -> None:
    with pytest.raises(ValueError, match="6 x 8 cannot be halved 2 times"):
        unet((1, 6, 8), multipliers=(1, 2, 2))


def test_the_uncertainty_learns_the_log_of_the_mean_error() -> None:
    """The minimum over u of error / e^u + u is at e^u = E[error | noise]. Karras et al. 2024, eq. 21."""
    torch.manual_seed(0)
    uncertainty = Uncertainty()
    optimiser = torch.optim.Adam(uncertainty.parameters(), lr=0.02)
    generator = torch.Generator().manual_seed(1)
    for _ in range(400):
        noise = torch.rand(256, generator=generator) * 2 - 1
        error = torch.exp(2 * noise) * 2 * torch.rand(256, generator=generator)
        logvar = uncertainty(noise)
        optimiser.zero_grad()
        (error / logvar.exp() + logvar).mean().backward()
        optimiser.step()
    noise = torch.linspace(-0.9, 0.9, 50)
    torch.testing.assert_close(uncertainty(noise), 2 * noise, rtol=0, atol=0.25)
