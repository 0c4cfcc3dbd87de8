"""Trained or registered model -> a folder that another library runs."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from langevin.config.load import load_recipe, restore
from langevin.config.paths import home
from langevin.diffusion.denoiser import Denoiser
from langevin.errors import ConfigError
from langevin.interop.folder import save
from langevin.interop.scheduler import Drawing
from langevin.stages.outputs import Outputs, read_json
from langevin.tracking.registry import Registry
from langevin.tracking.store import tracking_uri
from langevin.training import checkpoint as checkpoints
from langevin.training.checkpoint import Checkpoint

FORMATS = ("diffusers",)
SPACINGS = {"trailing": "trailing", "strided": "leading", "spread": "linspace"}


def export(what: str, layout: str, out: Path, name: str | None) -> dict[str, Any]:
    """Writes the averaged weights of a recipe's training, or of a registered version, as the format ``layout``.

    name: the class that the model is to draw, by name or number; None is "no class". The model is the conditional one
    itself, at guidance scale 1: the recipe's guidance needs two of them, and stays behind. ConfigError: an unknown format or
    class, or a model that the format cannot hold; DataError: not trained yet; RegistryError: an address of nothing.
    """
    if layout not in FORMATS:
        raise ConfigError("is no format", field="--format", value=layout, mend=f"take {' or '.join(FORMATS)}")
    checkpoint = _checkpoint(what)
    denoiser = getattr(restore(checkpoint), "denoiser", None)
    if not isinstance(denoiser, Denoiser):
        raise ConfigError(
            f"cannot be exported: its method is {checkpoint.model['model']['method']}", file=what,
            mend=f"{layout} holds Gaussian diffusion models on a chain of steps, such as ddpm",
        )  # fmt: skip
    sample, classes = checkpoint.model["sample"], checkpoint.model["data"]["classes"]
    drawing = Drawing(SPACINGS.get(sample.get("grid") or "trailing", "trailing"), sample.get("threshold", "static"))
    try:
        save(denoiser, out, _label(name, classes), drawing)
    except ConfigError as error:
        error.file = error.file or what
        raise
    return {"folder": str(out), "format": layout, "checkpoint": str(checkpoint.folder), "sha256": checkpoint.sha256,
            "class": name}  # fmt: skip


def _checkpoint(what: str) -> Checkpoint:
    if what.startswith("models:"):
        return checkpoints.read(Path(Registry(tracking_uri(home())).resolve(what).source))
    trained = read_json(Outputs.of(load_recipe(Path(what))).training, "train")
    return checkpoints.read(home() / trained["checkpoint"])


def _label(name: str | None, classes: list[str]) -> int:
    """-1 without a name; a class's name goes before its number."""
    if name is None:
        return -1
    if name in classes:
        return classes.index(name)
    if name.isdecimal() and int(name) < len(classes):
        return int(name)
    near = difflib.get_close_matches(name, classes, 1, cutoff=0.7)
    some = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
    mend = f"did you mean {near[0]}?" if near else f"the classes are {some}" if classes else "leave it out"
    raise ConfigError("is no class of the model's data", field="--class", value=name, mend=mend)
