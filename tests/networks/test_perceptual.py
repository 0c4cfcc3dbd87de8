"""How different images look: torchvision's VGG16 to the last digits, and the distance of Zhang et al. 2018 written out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from langevin.evaluation.compatibility import declare_missing_operators
from langevin.networks.perceptual import VGG16, Perceptual, distance

RELUS = {3: 64, 8: 128, 15: 256, 22: 512, 29: 512}  # place and width of relu1_2, 2_2, 3_3, 4_3 and 5_3 in torchvision's


@pytest.fixture(scope="module")
def theirs() -> nn.Sequential:
    """torchvision's, with random weights; without its classifier, which is most of it."""
    declare_missing_operators()
    from torchvision.models import vgg16

    with torch.device("meta"):
        network = vgg16()
    layers: nn.Sequential = network.features[:30].to_empty(device="cpu")  # up to relu5_3
    torch.manual_seed(0)
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.normal_(layer.bias, std=0.1)  # type: ignore[arg-type]
    return layers.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def ours(theirs: nn.Sequential) -> VGG16:
    with torch.device("meta"):
        network = VGG16()
    network.load_state_dict({f"features.{name}": value for name, value in theirs.state_dict().items()}, assign=True)
    return network


def images(count: int, colours: int, side: int, seed: int = 0) -> Tensor:
    return 2 * torch.rand(count, colours, side, side, generator=torch.Generator().manual_seed(seed)) - 1


def maps_of(theirs: nn.Sequential, x: Tensor) -> list[Tensor]:
    """What torchvision's network says of images in [-1, 1], prepared as its weights expect."""
    from torchvision.transforms.functional import normalize

    h, found = normalize((x + 1) / 2, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), []
    for place, layer in enumerate(theirs):
        h = layer(h)
        if place in RELUS:
            found.append(h.clone())  # the next layers work in place
    return found


@pytest.mark.parametrize("side", [16, 33])
def test_features_are_torchvisions(theirs: nn.Sequential, ours: VGG16, side: int) -> None:
    x = images(2, 3, side)
    found, expected = ours(x), maps_of(theirs, x)
    assert [one.shape[1] for one in found] == list(RELUS.values())
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_the_distance_is_the_papers(theirs: nn.Sequential, ours: VGG16) -> None:
    """Equation 1 with w = 1, place by place, in float64: the squared chord between two directions of channels."""
    x, y = images(3, 3, 16, 1), images(3, 3, 16, 2)
    expected = torch.zeros(3, dtype=torch.float64)
    for f, g in zip(maps_of(theirs, x), maps_of(theirs, y), strict=True):
        cosine = torch.cosine_similarity(f.double(), g.double(), dim=1)
        silent = (f.norm(dim=1) == 0).double() + (g.norm(dim=1) == 0).double()
        expected += (2 - silent - 2 * cosine).mean((1, 2))
    found = Perceptual(lambda: ours)(x, y)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(Perceptual(lambda: ours)(x, x), torch.zeros(3))


def test_grey_is_three_equal_colours(ours: VGG16) -> None:
    x, y = images(2, 1, 16, 1), images(2, 1, 16, 2)
    looks = Perceptual(lambda: ours)
    torch.testing.assert_close(looks(x, y), looks(x.repeat(1, 3, 1, 1), y.repeat(1, 3, 1, 1)))


def test_nearer_images_look_nearer_and_its_gradient_leads_there(ours: VGG16) -> None:
    looks, x, away = Perceptual(lambda: ours), images(2, 3, 16, 1), images(2, 3, 16, 2)
    steps = [looks(x, x + share * (away - x)) for share in (0.05, 0.2, 1.0)]
    assert bool((steps[0] < steps[1]).all())
    assert bool((steps[1] < steps[2]).all())
    y = (x + 0.2 * (away - x)).requires_grad_()
    (slope,) = torch.autograd.grad(looks(x, y).sum(), y)
    assert bool((looks(x, y.detach() - 1e-3 * slope / slope.abs().max()) < steps[1]).all())
    assert all(parameter.grad is None for parameter in ours.parameters())


def test_a_map_without_features_has_a_gradient_that_is_a_number() -> None:
    """A direction of length zero is no number; where nothing is seen nothing is to be moved."""
    seen, unseen = torch.ones(1, 2, 1, 2), torch.zeros(1, 2, 1, 2)
    unseen[..., 1] = 1.0
    given = unseen.requires_grad_()
    far = distance([seen], [given.relu()])
    torch.testing.assert_close(far, torch.tensor([0.5]))  # one of two places, at a distance of 1
    (slope,) = torch.autograd.grad(far.sum(), given)
    assert bool(torch.isfinite(slope).all())
    assert not slope[..., 0].any()


def test_it_is_read_once_and_when_it_is_first_asked(ours: VGG16) -> None:
    read: list[int] = []

    def reading() -> nn.Module:
        read.append(1)
        return ours

    looks: Callable[..., Tensor] = Perceptual(reading)
    assert read == []
    looks(images(1, 3, 16), images(1, 3, 16))
    looks(images(1, 3, 16), images(1, 3, 16))
    assert read == [1]
