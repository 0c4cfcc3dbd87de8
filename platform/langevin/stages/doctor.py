"""Whether an installation works, found out by trying."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from langevin.config.load import load_recipe
from langevin.config.paths import home, within_home
from langevin.data.integrity import verify
from langevin.errors import DataError, LangevinError
from langevin.tracking.registry import Registry
from langevin.tracking.store import shown, tracking_uri

LIBRARIES = ("torch", "ray", "mlflow", "dvc", "webdataset", "torch-fidelity")
FEWEST_BYTES = 2 * 2**30


def examine() -> list[dict[str, Any]]:
    """[{check, ok, found}], each tried for real; nothing is changed."""
    checks: dict[str, Callable[[], str]] = {
        "libraries": lambda: ", ".join(f"{name} {version(name)}" for name in LIBRARIES),
        "machine": _machine,
        "home": _home,
        "tracking": _tracking,
        "undelivered points": _undelivered,
    }
    for path in sorted(Path("pipelines/recipes").glob("*.yaml")):
        checks[f"recipe {path.stem}"] = partial(_recipe, path)
    results = []
    for name, check in checks.items():
        try:
            results.append({"check": name, "ok": True, "found": check()})
        except (LangevinError, OSError, ImportError) as error:
            results.append({"check": name, "ok": False, "found": str(error)})
    return results


def lines(checks: list[dict[str, Any]]) -> str:
    return "\n".join(f"{'ok  ' if check['ok'] else 'FAIL'} {check['check']}: {check['found']}" for check in checks)


def _machine() -> str:
    import torch

    gpus = torch.cuda.device_count()
    ray = os.environ.get("RAY_ADDRESS", "not set: embedded Ray")
    return f"{len(os.sched_getaffinity(0))} CPUs, {gpus} GPUs, RAY_ADDRESS {ray}"


def _home() -> str:
    free = shutil.disk_usage(home()).free
    if free < FEWEST_BYTES:
        raise DataError(f"only {free / 2**30:.1f} GiB are free", file=home(), mend="free 2 GiB, or set LANGEVIN_HOME")
    return f"{home()}, {free / 2**30:.0f} GiB free"


def _tracking() -> str:
    uri = tracking_uri(home())
    return f"{shown(uri)}, registered models: {', '.join(Registry(uri).names()) or 'none yet'}"


def _undelivered() -> str:
    waiting = []
    for position in (home() / "runs").glob("*/spool/position.json"):
        behind = (position.parent / "records.jsonl").stat().st_size - json.loads(position.read_text())["offset"]
        if behind > 0:
            waiting.append(position.parent.parent.name)
    return f"{', '.join(waiting)}: delivered when the run is next opened" if waiting else "none"


def _recipe(path: Path) -> str:
    recipe = load_recipe(path)
    root = within_home(recipe.data.root)
    if not (root / "manifest.json").exists():
        return "well-formed; its data set is not prepared yet"
    problems = verify(root)
    if problems:
        raise DataError(str(problems[0]), file=root, mend="run `langevin prepare RECIPE`")
    return "well-formed; every shard is what its manifest says"
