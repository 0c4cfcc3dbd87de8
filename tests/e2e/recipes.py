"""A recipe that is trained in seconds, and homes of its own for every test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ELSEWHERE = ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "MLFLOW_TRACKING_URI", "LANGEVIN_DEBUG")


def small(**changes: Any) -> dict[str, Any]:
    """The recipe's values. changes: with __ for the dot, ``train__images=64``; None takes the field away."""
    recipe: dict[str, Any] = {
        "name": "small",
        "seed": 0,
        "data": {"source": "digits", "root": "out/data/digits", "shard_samples": 512},
        "model": {
            "method": "ddpm",
            "network": {"channels": 8, "multipliers": [1, 2], "blocks": 1},
            "schedule": {"name": "cosine", "steps": 1000},
            "prediction": "velocity",
        },
        "train": {
            "images": 1024,
            "batch": 32,
            "lr": 2e-3,
            "betas": [0.9, 0.99],
            "ema_decay": 0.99,
            "workers": 0,
            "log_every": 256,
            "validate_every": 512,
            "checkpoint_every": 512,
        },
        "sample": {"steps": 4},
        "bound": {"calls": 4},
        "evaluate": {"extractor": "cnn", "images": 128, "curve_images": 64, "batch": 128},
        "generate": {"images": 64, "unit": 16, "workers": 0},
    }
    for field, value in changes.items():
        *path, last = field.split("__")
        section = recipe
        for part in path:
            section = section.setdefault(part, {})
        section[last] = value
        if value is None:
            del section[last]
    return recipe


def write_recipe(path: Path, **changes: Any) -> Path:
    """The small recipe with changes as a file: JSON is YAML too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(small(**changes), indent=1))
    return path


def environment(home: Path, **more: str) -> dict[str, str]:
    """For a process of its own: its home, one thread, the programs of this environment, nothing that leads elsewhere."""
    kept = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**kept, "LANGEVIN_HOME": str(home), "OMP_NUM_THREADS": "1", "PATH": path, **more}


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "langevin.cli", *map(str, arguments)]


def langevin(
    *arguments: str | Path, home: Path, more: Mapping[str, str] | None = None, timeout_s: float = 300
) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, waited for."""
    return subprocess.run(
        command(*arguments),
        env=environment(home, **(more or {})),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
