"""Networks that others trained, whose weights a recipe names by a file: read as tensors, and known by the file's hash."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from langevin.config.paths import within_home
from langevin.data import files
from langevin.errors import CheckpointError, ConfigError
from langevin.networks.perceptual import VGG16

PREFIX = "features."  # of torchvision's names; the classifier on top is left where it is
MEND = "give torchvision's vgg16 as .safetensors or .pth, such as vgg16-397923af.pth"


def vgg16(path: str) -> VGG16:
    """VGG16's convolutions with the weights of a recipe's file. ConfigError where it is missing, CheckpointError where it
    holds others, or more than tensors.
    """
    file = _file(path)
    tensors = _tensors(file)
    with torch.device("meta"):  # which draws no weights, and leaves the generator as it was
        network = VGG16()
    for name, expected in network.state_dict().items():
        found = tensors.get(name)
        if found is None or found.shape != expected.shape or not found.is_floating_point():
            shape = None if found is None else list(found.shape)
            raise CheckpointError(f"holds no VGG16: {name} is not {list(expected.shape)}", file=file,
                                  field="model.perceptual", value=shape, mend=MEND)  # fmt: skip
    network.load_state_dict({name: tensors[name].float() for name in network.state_dict()}, assign=True)
    return network


def sha256(path: str) -> str:
    """Of a recipe's file, by which a training is known that looked through it. ConfigError where it is missing."""
    return files.sha256(_file(path))


def _file(path: str) -> Path:
    file = within_home(path)
    if not file.is_file():
        raise ConfigError("there is no such file", file=file, field="model.perceptual", value=path,
                          mend=f"{MEND}, or remove the field")  # fmt: skip
    return file


def _tensors(file: Path) -> dict[str, Tensor]:
    """Those of the convolutions, by name."""
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, "pt") as content:
                return {name: content.get_tensor(name) for name in content.keys() if name.startswith(PREFIX)}  # noqa: SIM118
        found = torch.load(file, map_location="cpu", weights_only=True)
        return {name: value for name, value in found.items() if isinstance(value, Tensor) and name.startswith(PREFIX)}
    except (SafetensorError, OSError) as error:
        problem = str(error)
    except Exception as error:  # the unpickler raises whatever the bytes make it raise
        problem = str(error) or type(error).__name__
    raise CheckpointError(f"holds no plain tensors ({problem.splitlines()[0][:160]})", file=file, field="model.perceptual",
                          mend=MEND)  # fmt: skip
