"""Parts that were trained before are found by workers, whose working directory is another one."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from .conftest import Homes
from .recipes import command, environment, write_recipe

CODEC: dict[str, Any] = {
    "name": "codec",
    "model": {"method": "autoencoder", "network": {"channels": 8, "multipliers": [1, 2]}, "adversarial": 0.0},
    "sample": {"sampler": "own"},
    "bound": {"kind": "latent"},
    "train__images": 64,
}
LATENT: dict[str, Any] = {
    "name": "latent",
    "latents": {"codec": "codec", "root": "out/data/latents"},
    "sample__threshold": "none",
    "bound": {"kind": "continuous", "calls": 4},
    "train__images": 64,
    "train__workers": 1,
}


def test_a_latent_model_trains_on_workers_that_are_elsewhere(new_home: Homes) -> None:
    """The home is the working directory, and nothing says so to Ray's workers but the training itself."""
    home = new_home("l")
    codec, latent = write_recipe(home / "codec.yaml", **CODEC), write_recipe(home / "latent.yaml", **LATENT)
    for step, recipe in (("train", codec), ("encode", latent), ("train", latent)):
        done = ran(home, step, recipe)
        assert done.returncode == 0, done.stderr
    assert json.loads((home / "out/latent/training.json").read_text())["images"] == 64


def ran(home: Path, step: str, recipe: Path) -> subprocess.CompletedProcess[str]:
    unsaid = {name: value for name, value in environment(home).items() if name != "LANGEVIN_HOME"}
    return subprocess.run(command(step, recipe), cwd=home, env=unsaid, capture_output=True, text=True, timeout=240)
