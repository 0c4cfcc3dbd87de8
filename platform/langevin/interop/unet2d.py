"""diffusers' UNet2DModel <-> UNet: its configuration and tensors, both ways, exactly.

The names are diffusers'. Its network counts the chain's steps i = 0 .. T - 1, ours is told t = (i + 1) / T: one step more
turns every (sin, cos) pair of the noise embedding by its frequency, and the first Linear after it takes the turn back.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from langevin.errors import CheckpointError, ConfigError
from langevin.networks.embeddings import NoiseEmbedding
from langevin.networks.layers import (
    AdditiveBlock,
    Attention,
    CornerDownsample,
    Downsample,
    Norm,
    ResidualBlock,
    Stage,
    Upsample,
)
from langevin.networks.unet import Anatomy, Middle, UNet

Config = Mapping[str, Any]
Tensors = Mapping[str, Tensor]

CLASS = "UNet2DModel"
# what a configuration need not say
DEFAULTS: Config = {
    "in_channels": 3, "out_channels": 3, "layers_per_block": 2, "block_out_channels": (224, 448, 672, 896),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "freq_shift": 0, "flip_sin_to_cos": True, "downsample_padding": 1, "attention_head_dim": 8, "norm_num_groups": 32,
    "norm_eps": 1e-5, "resnet_time_scale_shift": "default", "add_attention": True,
}  # fmt: skip
# what this UNet does in one way only; the first value is the default
ONLY: Mapping[str, tuple[Any, ...]] = {
    "center_input_sample": (False,), "time_embedding_type": ("positional",), "mid_block_type": ("UNetMidBlock2D",),
    "mid_block_scale_factor": (1,), "downsample_type": ("conv",), "upsample_type": ("conv",),
    "act_fn": ("silu", "swish"), "class_embed_type": (None,),
}  # fmt: skip
BLOCKS: Mapping[str, type[ResidualBlock]] = {"default": AdditiveBlock, "scale_shift": ResidualBlock}
DOWNSAMPLES: Mapping[int, type[Downsample | CornerDownsample]] = {0: CornerDownsample, 1: Downsample}


def from_diffusers(config: Config, tensors: Tensors, steps: int = 1000) -> UNet:
    """The network of a configuration with its weights, told t in [0, 1] of a chain of ``steps``; in evaluation mode.

    Dropout, which only training sees, is left out; a class-conditional network's "no class" is the zero vector.
    ConfigError names the field that no UNet of ours can follow, CheckpointError the tensors that do not fit.
    """
    network = _built(config, steps)
    given = {_modern(name): value for name, value in tensors.items()}
    found: list[tuple[str, Tensor, Tensor]] = []  # name, our parameter, its value
    for name, part in _parts(network):
        if isinstance(part, NoiseEmbedding):
            columns = _sines_first(_taken(given, f"{name}.linear_1.weight"), part, config)
            first, second = _linears(part)
            found.append((f"{name}.linear_1.weight", first.weight, _turned(columns, part, forward=True)))
            for theirs, own in (("1.bias", first.bias), ("2.weight", second.weight), ("2.bias", second.bias)):
                found.append((f"{name}.linear_{theirs}", own, _taken(given, f"{name}.linear_{theirs}")))
        elif isinstance(part, nn.Embedding):
            table = _taken(given, f"{name}.weight")
            found.append((f"{name}.weight", part.weight, torch.cat([torch.zeros_like(table[:1]), table])))
        elif name.endswith("to_q"):
            for kind, own in part.named_parameters():
                three = [_taken(given, f"{name[:-1]}{letter}.{kind}") for letter in "qkv"]
                found.append((f"{name}.{kind}", own.flatten(1) if own.ndim > 1 else own, torch.cat(three)))
        else:
            linear = name.endswith("to_out.0")  # a convolution of one pixel, as to_q
            for kind, own in part.named_parameters():
                own = own.flatten(1) if linear and own.ndim > 1 else own
                found.append((f"{name}.{kind}", own, _taken(given, f"{name}.{kind}")))
    if given:
        raise CheckpointError("is a tensor that the configuration has no place for", field=min(given))
    with torch.no_grad():
        for name, own, value in found:
            if own.shape != value.shape:
                raise CheckpointError(f"has shape {tuple(value.shape)}, not {tuple(own.shape)}", field=name)
            own.copy_(value)
    return network.eval()


def to_diffusers(network: UNet, label: int = -1) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The configuration and the tensors of UNet2DModel that give the network's output for the class ``label``.

    A pipeline gives its network no labels, so the class's vector goes into the embedding's bias; -1 is "no class".
    """
    tensors: dict[str, Tensor] = {}
    for name, part in _parts(network):
        if isinstance(part, NoiseEmbedding):
            first, second = _linears(part)
            turned = _turned(first.weight, part, forward=False)
            padding = turned.new_zeros(len(turned), network.widths[0] - turned.shape[1])  # diffusers': an odd number
            tensors[f"{name}.linear_1.weight"] = torch.cat([turned, padding], dim=1)
            tensors[f"{name}.linear_1.bias"] = first.bias
            tensors[f"{name}.linear_2.weight"] = second.weight
            tensors[f"{name}.linear_2.bias"] = second.bias + _class_vector(network, label)
        elif isinstance(part, nn.Embedding):
            continue
        elif name.endswith("to_q"):
            for kind, own in (("weight", part.weight.flatten(1)), ("bias", part.bias)):
                tensors |= {f"{name[:-1]}{letter}.{kind}": v for letter, v in zip("qkv", own.chunk(3), strict=True)}
        else:
            flat = name.endswith("to_out.0")
            tensors |= {
                f"{name}.{kind}": v.flatten(1) if flat and v.ndim > 1 else v for kind, v in part.named_parameters()
            }
    return _config(network), {name: value.detach().float().contiguous().clone() for name, value in tensors.items()}


def _built(config: Config, steps: int) -> UNet:
    for field, allowed in ONLY.items():
        if config.get(field, allowed[0]) not in allowed:
            raise _unlike(config, field, f"this network has {field} {' or '.join(map(repr, allowed))} only")
    config = {**DEFAULTS, **config}
    size, widths = config.get("sample_size"), tuple(config["block_out_channels"])
    if not size:
        raise _unlike(config, "sample_size", "give the side of the images in pixels")
    height, width = (size, size) if isinstance(size, int) else size
    if height % 2 ** (len(widths) - 1) or width % 2 ** (len(widths) - 1):
        raise _unlike(config, "sample_size", f"it must halve {len(widths) - 1} times")
    groups, channels = config["norm_num_groups"], math.gcd(*widths)
    if not groups or channels % groups:
        raise _unlike(config, "norm_num_groups", f"give a divisor of every one of block_out_channels, {widths}")
    for field, parts in (("resnet_time_scale_shift", BLOCKS), ("downsample_padding", DOWNSAMPLES)):
        if config[field] not in parts:
            raise _unlike(config, field, f"take one of {', '.join(map(repr, parts))}")
    attends = _attending(config)
    heads = config["attention_head_dim"]
    cut = [width for width, at in zip(widths, attends, strict=True) if at] + [widths[-1]] * config["add_attention"]
    if heads is not None and any(width % heads for width in cut):
        raise _unlike(config, "attention_head_dim", f"give a divisor of the attending channels, {cut}, or null")
    norm, in_middle = Norm(groups, config["norm_eps"]), config.get("attn_norm_num_groups")
    if in_middle is None and config["resnet_time_scale_shift"] == "default":
        in_middle = groups
    return UNet(
        (config["in_channels"], height, width),
        channels,
        tuple(width // channels for width in widths),
        config["layers_per_block"],
        tuple(height >> level for level, at in enumerate(attends) if at),
        config.get("num_class_embeds") or 0,
        channels_out=config["out_channels"],
        anatomy=Anatomy(
            block=BLOCKS[config["resnet_time_scale_shift"]],
            downsample=DOWNSAMPLES[config["downsample_padding"]],
            norm=norm,
            head_channels=heads,
            middle=Middle(config["add_attention"], Norm(in_middle, norm.eps) if in_middle else None),
            width=config.get("time_embedding_dim"),
            steps=steps,
            shift=config["freq_shift"],
        ),
    )


def _attending(config: Config) -> list[bool]:
    """Whether each resolution attends, from the highest. On the way down and up alike: a UNet of ours knows no other."""
    found = {}
    for field, plain, attending in (
        ("down_block_types", "DownBlock2D", "AttnDownBlock2D"),
        ("up_block_types", "UpBlock2D", "AttnUpBlock2D"),
    ):
        types = list(config[field])
        if len(types) != len(config["block_out_channels"]) or set(types) - {plain, attending}:
            raise _unlike(config, field, f"give a {plain} or {attending} for each of block_out_channels")
        found[field] = [kind == attending for kind in types]
    if found["down_block_types"] != found["up_block_types"][::-1]:
        raise _unlike(config, "up_block_types", "let the same resolutions attend as in down_block_types")
    return found["down_block_types"]


def _config(network: UNet) -> dict[str, Any]:
    anatomy, (_, height, width) = network.anatomy, network.image_shape
    attends = [side in network.attention for side in network.sides]
    middle = anatomy.middle
    assert middle is not None
    return {
        "_class_name": CLASS,
        "sample_size": height if height == width else [height, width],
        "in_channels": network.channels_in,
        "out_channels": network.channels_out,
        "block_out_channels": list(network.widths),
        "layers_per_block": network.blocks,
        "down_block_types": ["AttnDownBlock2D" if at else "DownBlock2D" for at in attends],
        "up_block_types": ["AttnUpBlock2D" if at else "UpBlock2D" for at in reversed(attends)],
        "add_attention": middle.attends,
        "attn_norm_num_groups": middle.norm.groups if middle.norm else None,
        "attention_head_dim": anatomy.head_channels,
        "norm_num_groups": anatomy.norm.groups,
        "norm_eps": anatomy.norm.eps,
        "resnet_time_scale_shift": next(name for name, block in BLOCKS.items() if block is anatomy.block),
        "downsample_padding": next(padding for padding, kind in DOWNSAMPLES.items() if kind is anatomy.downsample),
        "time_embedding_type": "positional",
        "time_embedding_dim": anatomy.width,
        "flip_sin_to_cos": False,
        "freq_shift": anatomy.shift if network.widths[0] // 2 > anatomy.shift else 0,
    }


def _parts(network: UNet) -> Iterator[tuple[str, Any]]:
    """Each module that has parameters of its own beside diffusers' name of it; of attention's three, to_q is named."""
    yield "time_embedding", network.noise_embedding
    if network.class_embedding is not None:
        yield "class_embedding", network.class_embedding.table
    yield "conv_in", network.stem
    level, block = 0, 0
    for layer in network.down:
        if isinstance(layer, Stage):
            yield from _stage(f"down_blocks.{level}", block, layer)
            block += 1
        else:
            yield f"down_blocks.{level}.downsamplers.0.conv", layer.conv
            level, block = level + 1, 0
    for block, layer in enumerate(network.middle):
        yield from _stage("mid_block", block, layer)
    level, block = 0, 0
    for layer in network.up:
        if isinstance(layer, Upsample):
            yield f"up_blocks.{level}.upsamplers.0.conv", layer.conv
            level, block = level + 1, 0
        else:
            yield from _stage(f"up_blocks.{level}", block, layer)
            block += 1
    yield "conv_norm_out", network.norm
    yield "conv_out", network.head


def _stage(name: str, block: int, stage: Any) -> Iterator[tuple[str, nn.Module]]:
    residual, attend = stage.residual, stage.attend
    for theirs, part in (
        ("norm1", residual.norm_in),
        ("conv1", residual.conv_in),
        ("time_emb_proj", residual.modulation),
        ("norm2", residual.norm_out),
        ("conv2", residual.conv_out),
        ("conv_shortcut", residual.skip),
    ):
        yield f"{name}.resnets.{block}.{theirs}", part
    if isinstance(attend, Attention):
        for theirs, part in (("group_norm", attend.norm), ("to_q", attend.qkv), ("to_out.0", attend.out)):
            yield f"{name}.attentions.{block}.{theirs}", part


def _linears(part: NoiseEmbedding) -> tuple[nn.Linear, nn.Linear]:
    first, _, second = part.mlp
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    return first, second


def _sines_first(weight: Tensor, part: NoiseEmbedding, config: Config) -> Tensor:
    """The columns in our order, (sin, cos), without those of an odd number's padding, which meet zeros."""
    count = len(part.get_buffer("frequencies"))
    halves = weight[:, :count], weight[:, count : 2 * count]
    return torch.cat(halves[::-1] if config.get("flip_sin_to_cos", DEFAULTS["flip_sin_to_cos"]) else halves, dim=1)


def _turned(weight: Tensor, part: NoiseEmbedding, forward: bool) -> Tensor:
    """The first Linear for an embedding that is told one step more (forward) or less: it gives the same.

    With a = i w and b = (i + 1) w: sin a = sin b cos w - cos b sin w, cos a = cos b cos w + sin b sin w. In float64.
    """
    frequencies = part.get_buffer("frequencies").double()
    cos, sin = torch.cos(frequencies), torch.sin(frequencies) * (1 if forward else -1)
    of_sin, of_cos = weight.double().chunk(2, dim=1)
    return torch.cat([of_sin * cos + of_cos * sin, of_cos * cos - of_sin * sin], dim=1).to(weight.dtype)


def _class_vector(network: UNet, label: int) -> Tensor | float:
    if network.class_embedding is None:
        if label != -1:
            raise ConfigError("the network knows no classes", field="class", value=label, mend="leave it out")
        return 0.0
    if not -1 <= label < network.classes:
        raise ConfigError("is no class of the network", field="class", value=label,
                          mend=f"give one of 0 to {network.classes - 1}, or none")  # fmt: skip
    return network.class_embedding.table.weight[label + 1]


def _taken(given: dict[str, Tensor], name: str) -> Tensor:
    if name not in given:
        raise CheckpointError("is missing among the tensors", field=name)
    return given.pop(name)


def _modern(name: str) -> str:
    """Attention's names until 2023, in which many published weights lie."""
    for old, new in (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")):
        name = name.replace(f".{old}.", f".{new}.")
    return name


def _unlike(config: Config, field: str, mend: str) -> ConfigError:
    value = config.get(field)
    return ConfigError(
        f"no network here can follow this configuration of {CLASS}",
        field=field,
        value=list(value) if isinstance(value, tuple) else value,
        mend=mend,
    )
