"""A folder that diffusers' DDPMPipeline and DDIMPipeline read and write, as a Denoiser. JSON and safetensors, no code.

model_index.json                        which classes lie where
unet/config.json                        (or all in one folder, as older models have it)
unet/diffusion_pytorch_model.safetensors
scheduler/scheduler_config.json
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from langevin.diffusion.denoiser import Denoiser
from langevin.errors import CheckpointError, ConfigError, UserError
from langevin.interop import scheduler, unet2d
from langevin.interop.scheduler import AS_OURS, Drawing
from langevin.networks.unet import UNet

INDEX, UNET, SCHEDULER = "model_index.json", "unet", "scheduler"
CONFIG, WEIGHTS, SCHEDULER_CONFIG = "config.json", "diffusion_pytorch_model.safetensors", "scheduler_config.json"
PIPELINE = "DDPMPipeline"


def load(folder: Path) -> Denoiser:
    """The pipeline's network on its schedule, in evaluation mode: D(x_t, t), t = (i + 1) / T for diffusers' step i.

    ConfigError, with the file, for a configuration that cannot be followed; CheckpointError for weights that are missing,
    damaged, or no safetensors.
    """
    network_at = _part(folder, UNET)
    chain_at = _part(folder, SCHEDULER) / SCHEDULER_CONFIG
    said, chain = _json(network_at / CONFIG), _json(chain_at)
    with _in_file(chain_at):
        schedule, parameterization = scheduler.schedule_from(chain), scheduler.parameterization_from(chain)
    with _in_file(network_at / CONFIG):
        if said.get("_class_name", unet2d.CLASS) != unet2d.CLASS:
            raise ConfigError("cannot be loaded", field="_class_name", value=said["_class_name"],
                              mend=f"it can be {unet2d.CLASS}")  # fmt: skip
        network = unet2d.from_diffusers(said, _tensors(network_at / WEIGHTS), schedule.steps)
    return Denoiser(network, schedule, parameterization).eval()


def save(denoiser: Denoiser, folder: Path, label: int = -1, drawing: Drawing = AS_OURS) -> None:
    """Writes the conditional model of one class, or that of "no class" (-1), as a pipeline's folder.

    DDIMPipeline draws the images of our DDIM on clamped data with ``use_clipped_model_output=True``. A model of learned
    variance is for DDPMPipeline alone, with all steps: with fewer, diffusers adds noise in the last one as well.
    ConfigError where diffusers cannot say what the denoiser is, or where ``folder`` holds something else.
    """
    network = denoiser.network
    if not isinstance(network, UNet):
        raise ConfigError("is no UNet2DModel", field="network", value=type(network).__name__,
                          mend="export a model whose network is the standard UNet")  # fmt: skip
    colours, out = network.channels_in, network.channels_out
    if out not in (colours, 2 * colours):
        raise ConfigError(f"no pipeline samples from a network of {colours} channels in and {out} out",
                          field="network", mend="export a model of images alone")  # fmt: skip
    chain = scheduler.to_config(denoiser, drawing, learned_variance=out == 2 * colours)
    if network.anatomy.steps != chain["num_train_timesteps"]:
        raise ConfigError(f"diffusers tells a network the number of the step, and this one counts {network.anatomy.steps:g}",
                          field="schedule.steps", value=chain["num_train_timesteps"],
                          mend=f"train on a chain of {network.anatomy.steps:g} steps")  # fmt: skip
    config, tensors = unet2d.to_diffusers(network, label)
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / INDEX).is_file())):
        raise ConfigError("holds something else", file=folder, mend="name a new folder, or that of an earlier export")
    (folder / UNET).mkdir(parents=True, exist_ok=True)
    (folder / SCHEDULER).mkdir(exist_ok=True)
    unfinished = folder / UNET / f".{WEIGHTS}"
    save_file(tensors, unfinished, metadata={"format": "pt"})
    os.replace(unfinished, folder / UNET / WEIGHTS)
    _write(folder / UNET / CONFIG, config)
    _write(folder / SCHEDULER / SCHEDULER_CONFIG, chain)
    classes = {UNET: ["diffusers", unet2d.CLASS], SCHEDULER: ["diffusers", scheduler.CLASS]}
    _write(folder / INDEX, {"_class_name": PIPELINE, **classes})  # last: without it there is no pipeline


def _part(folder: Path, name: str) -> Path:
    return folder / name if (folder / name).is_dir() else folder


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError("is missing", file=path, mend=f"name a folder that diffusers' {PIPELINE} saved")
    try:
        values = json.loads(path.read_text())
    except ValueError as error:
        raise ConfigError(f"is no JSON ({error})", file=path) from None
    if not isinstance(values, dict):
        raise ConfigError("holds no fields", file=path)
    return values


def _tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError("is missing", file=path, mend="save the pipeline with safe_serialization=True")
    try:
        return load_file(path)
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"holds no plain tensors ({error})", file=path) from None


def _write(path: Path, values: Mapping[str, Any]) -> None:
    unfinished = path.with_name(f".{path.name}")
    unfinished.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
    os.replace(unfinished, path)


@contextmanager
def _in_file(path: Path) -> Iterator[None]:
    """The file in which a mistake was found, for the errors that do not know it."""
    try:
        yield
    except UserError as error:
        error.file = error.file or path
        raise
