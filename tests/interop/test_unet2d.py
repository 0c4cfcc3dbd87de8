"""The same weights give the same output in diffusers' UNet2DModel and in ours, both ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from langevin.errors import CheckpointError, ConfigError
from langevin.interop.unet2d import from_diffusers, to_diffusers
from langevin.networks.layers import AdditiveBlock, CornerDownsample, Norm
from langevin.networks.unet import Anatomy, UNet

from .peer import Network, UNet2DModel, awake, unet

STEPS = (0, 1, 17, 250, 511, 998, 999)

# google/ddpm-cifar10-32 and its like, at a quarter of their channels
CIFAR: dict[str, Any] = {
    "sample_size": 32,
    "block_out_channels": (32, 64, 64, 64),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": None,
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-6,
    "dropout": 0.1,
}
ADM: dict[str, Any] = {"resnet_time_scale_shift": "scale_shift", "attention_head_dim": 32, "norm_num_groups": 16}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "the defaults": {},
    "CIFAR-10": CIFAR,
    "scale and shift": ADM,
    "scale and shift, with a norm in the middle": ADM | {"attn_norm_num_groups": 4},
    "no attention in the middle": {"add_attention": False},
    "another width of the embedding": {"time_embedding_dim": 80, "layers_per_block": 1},
    "sine first, no shift": {"flip_sin_to_cos": False, "freq_shift": 0},
    "cosine first, shift": {"flip_sin_to_cos": True, "freq_shift": 1},
    "one resolution, odd channels": {
        "block_out_channels": (15,), "norm_num_groups": 5, "down_block_types": ("AttnDownBlock2D",),
        "up_block_types": ("AttnUpBlock2D",), "attention_head_dim": 5,
    },
    "no image": {"sample_size": (8, 16), "in_channels": 1, "out_channels": 2},
}  # fmt: skip


def states(network: UNet, count: int, seed: int = 1) -> Tensor:
    shape = (count, network.channels_in, *network.image_shape[1:])
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def outputs(theirs: Network, ours: UNet, steps: Sequence[int], chain: int = 1000) -> tuple[Tensor, Tensor]:
    """Of diffusers' network at steps i, and of ours at t = (i + 1) / T."""
    x, i = states(ours, len(steps)), torch.tensor(steps)
    return theirs(x, i).sample, ours(x, ((i + 1).double() / chain).float())


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_their_weights_in_our_network(name: str) -> None:
    theirs = unet(**CONFIGURATIONS[name])
    ours = from_diffusers(dict(theirs.config), theirs.state_dict())
    expected, found = outputs(theirs, ours, STEPS)
    assert float(expected.std()) > 0.1
    assert float((found - expected).abs().max()) < 1e-5


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_there_and_back_is_the_same_network(name: str) -> None:
    theirs = unet(**CONFIGURATIONS[name])
    config, tensors = to_diffusers(from_diffusers(dict(theirs.config), theirs.state_dict()))
    again = UNet2DModel.from_config(config).eval()
    again.load_state_dict(tensors)
    x, i = torch.randn(len(STEPS), theirs.config.in_channels, 16, 16), torch.tensor(STEPS)
    with torch.no_grad():
        torch.testing.assert_close(again(x, i).sample, theirs(x, i).sample, rtol=0, atol=1e-5)


OURS: dict[str, UNet] = {
    "standard": UNet((1, 8, 8), 16, (1, 2), 1, (4,)),
    "odd channels": UNet((3, 16, 16), 15, (2, 1, 3), 2, (16, 4)),
    "heads of one size": UNet((1, 8, 8), 32, (1, 3), 1, (8, 4)),
    "two channels": UNet((1, 8, 8), 2, (1, 2), 1, ()),
    "a second head": UNet((1, 8, 8), 16, (1, 2), 1, (8,), channels_in=3, channels_out=6),
    "Ho et al.": UNet(
        (1, 8, 8), 16, (1, 2), 1, (4,), anatomy=Anatomy(AdditiveBlock, CornerDownsample, Norm(4, 1e-6), None)
    ),
}


@pytest.mark.parametrize("name", OURS)
def test_our_weights_in_their_network(name: str) -> None:
    ours = awake(OURS[name])
    config, tensors = to_diffusers(ours)
    theirs = UNet2DModel.from_config(config).eval()
    theirs.load_state_dict(tensors)
    expected, found = outputs(theirs, ours, STEPS)
    assert float(expected.std()) > 0.1
    assert float((found - expected).abs().max()) < 1e-5


@pytest.mark.parametrize("label", [-1, 0, 7])
def test_a_class_is_baked_in(label: int) -> None:
    ours = awake(UNet((1, 8, 8), 16, (1, 2), 1, (4,), classes=10))
    theirs = UNet2DModel.from_config((made := to_diffusers(ours, label))[0]).eval()
    theirs.load_state_dict(made[1])
    x, i = states(ours, 2), torch.tensor([3, 900])
    with torch.no_grad():
        found = theirs(x, i).sample
        of = {c: ours(x, (i + 1) / 1000, torch.full((2,), c)) for c in (-1, 0, 7)}
    assert float((of.pop(label) - found).abs().max()) < 1e-5
    assert min(float((other - found).abs().max()) for other in of.values()) > 1e-2


def test_their_classes_are_ours() -> None:
    theirs = unet(num_class_embeds=4)
    ours = from_diffusers(dict(theirs.config), theirs.state_dict())
    labels, i = torch.arange(4), torch.tensor([0, 40, 500, 999])
    x = states(ours, 4)
    with torch.no_grad():
        expected = theirs(x, i, class_labels=labels).sample
        assert float((ours(x, (i + 1) / 1000, labels) - expected).abs().max()) < 1e-5
        theirs.class_embedding.weight.zero_()
        unlabelled = theirs(x, i, class_labels=labels).sample
        assert float((ours(x, (i + 1) / 1000) - unlabelled).abs().max()) < 1e-5


def test_a_chain_of_another_length() -> None:
    """diffusers tells its network i whatever the chain's T; ours is told t = (i + 1) / T, and counts T steps to 1."""
    theirs = unet()
    ours = from_diffusers(dict(theirs.config), theirs.state_dict(), steps=50)
    expected, found = outputs(theirs, ours, (0, 1, 30, 49), chain=50)
    assert float((found - expected).abs().max()) < 1e-5


def test_attention_named_as_before_2023() -> None:
    theirs = unet()
    old = {}
    for name, value in theirs.state_dict().items():
        for new, was in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
            name = name.replace(new, was)
        old[name] = value
    expected, found = outputs(theirs, from_diffusers(dict(theirs.config), old), STEPS)
    assert float((found - expected).abs().max()) < 1e-5


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"time_embedding_type": "fourier"}, "time_embedding_type = 'fourier'"),
        ({"act_fn": "gelu"}, "act_fn = 'gelu'"),
        ({"mid_block_type": None}, "mid_block_type"),
        ({"mid_block_scale_factor": 2**0.5}, "mid_block_scale_factor = 1.41"),
        ({"downsample_type": "resnet"}, "downsample_type = 'resnet'"),
        ({"center_input_sample": True}, "center_input_sample = True"),
        ({"class_embed_type": "timestep"}, "class_embed_type = 'timestep'"),
        ({"sample_size": None}, "sample_size"),
        ({"sample_size": 18}, "sample_size = 18"),
        ({"norm_num_groups": 3}, "norm_num_groups = 3"),
        ({"downsample_padding": 2}, "downsample_padding = 2"),
        ({"attention_head_dim": 48}, "attention_head_dim = 48"),
        ({"resnet_time_scale_shift": "spatial"}, "resnet_time_scale_shift = 'spatial'"),
        ({"down_block_types": ["DownBlock2D", "SkipDownBlock2D", "AttnDownBlock2D"]}, "down_block_types = ["),
        ({"up_block_types": ["UpBlock2D", "AttnUpBlock2D", "UpBlock2D"]}, "up_block_types = ["),
        ({"up_block_types": ["UpBlock2D"]}, "up_block_types = ["),
    ],
)
def test_what_no_unet_of_ours_can_follow(change: dict[str, Any], named: str) -> None:
    theirs = unet()
    with pytest.raises(ConfigError) as caught:
        from_diffusers({**theirs.config, **change}, theirs.state_dict())
    assert str(caught.value).startswith(named)
    assert "; " in str(caught.value)


def test_tensors_that_do_not_fit() -> None:
    theirs = unet()
    tensors = theirs.state_dict()
    with pytest.raises(CheckpointError, match=r"conv_in.bias: is missing"):
        from_diffusers(dict(theirs.config), {n: v for n, v in tensors.items() if n != "conv_in.bias"})
    with pytest.raises(CheckpointError, match=r"conv_mid.bias: is a tensor that the configuration has no place for"):
        from_diffusers(dict(theirs.config), tensors | {"conv_mid.bias": tensors["conv_in.bias"]})
    with pytest.raises(CheckpointError, match=r"conv_in.bias: has shape \(31,\), not \(32,\)"):
        from_diffusers(dict(theirs.config), tensors | {"conv_in.bias": tensors["conv_in.bias"][1:]})


@pytest.mark.parametrize(("classes", "label"), [(10, 10), (10, -2), (0, 0)])
def test_a_class_that_there_is_not(classes: int, label: int) -> None:
    with pytest.raises(ConfigError, match=f"class = {label}"):
        to_diffusers(UNet((1, 8, 8), 8, (1,), 1, classes=classes), label)
