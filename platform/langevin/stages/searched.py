"""A search that came to its end, and how its page begins and ends: the few figures to see first, and its lineage."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from langevin.config.load_search import Loaded, load_search
from langevin.config.paths import home, within_home
from langevin.data.files import sha256
from langevin.data.manifest import Manifest
from langevin.errors import CheckpointError, DataError, TrackingError
from langevin.reporting.page import Report
from langevin.stages.outputs import Outputs
from langevin.stages.summary import number
from langevin.tracking.runs import find_run, tags_of
from langevin.tracking.store import tracking_uri
from langevin.training import checkpoint as checkpoints
from langevin.training.checkpoint import Checkpoint

LABELS = {"fid": "FID", "nll": "NLL, bits/dim", "network_calls": "network calls"}
HEADS = {"fid": "FID", "nll": "NLL", "network_calls": "Network calls"}


@dataclass(frozen=True)
class Found:
    """A search and what it left in out/SEARCH/search.json (stages/found.py)."""

    loaded: Loaded
    result: dict[str, Any]

    @classmethod
    def of(cls, path: Path) -> Found:
        """DataError where the search has not come to its end, or where its file has another space by now."""
        loaded = load_search(path)
        place = Outputs.named(loaded.search.name).folder / "search.json"
        if not place.is_file():
            raise DataError("is missing", file=place, mend=f"run `langevin tune {path}` to its end first")
        result = json.loads(place.read_text())
        trials, objectives = result["trials"], list(loaded.search.objectives)
        if result["objectives"] != objectives or any(
            row["knobs"].keys() != loaded.search.training.keys() for row in trials
        ):
            raise DataError(f"was left by another search than {path} is now", file=place,
                            mend=f"run `langevin tune {path}` again")  # fmt: skip
        return cls(loaded, result)

    @property
    def folder(self) -> Path:
        return Outputs.named(self.loaded.search.name).folder

    @property
    def first(self) -> str:
        """The objective that decides."""
        return str(self.result["objectives"][0])

    @cached_property
    def best_checkpoint(self) -> Checkpoint | None:
        """Of the best setting, where it still lies there."""
        if self.result["best"] is None:
            return None
        try:
            found = checkpoints.read(home() / self.result["best"]["checkpoint"])
        except CheckpointError:
            return None
        return found if found.sha256 == self.result["best"]["sha256"] else None

    def short(self, run: str) -> str:
        """A training's name without the recipe's."""
        return run.removeprefix(f"{self.result['recipe']}-")


def _head(found: Found) -> tuple[tuple[str, str, str], ...]:
    """The few figures to see first."""
    result = found.result
    best, images, trials = result["best"], result["images"], result["trials"]
    drawn, whole = result["drawn"]["images"], result["drawn"]["of_all_settings_whole"]
    complete = sum(row["state"] == "complete" for row in trials)
    figures = [] if best is None else [
        (HEADS[name], number(best["figures"][name]), _around(best, name))
        for name in dict.fromkeys([*result["objectives"], *(["network_calls"] if "network_calls" in best["figures"] else [])])
    ]  # fmt: skip
    return (
        *figures,
        ("Trainings", f"{len(trials)}", f"{complete} to their end"),
        ("Images trained", f"{images['share'] or 0:.0%}", f"{images['trained']:,} of {images['of_all_trials_whole']:,}"),
        *([("Images drawn", f"{drawn / whole:.0%}", f"{drawn:,} of {whole:,}")] if whole and drawn else []),
        ("Time", _duration(result["seconds"]), "all lives of the search"),
    )  # fmt: skip


def _lineage(found: Found) -> tuple[tuple[str, str], ...]:
    """From the code and the data to the best checkpoint, as far as it is known."""
    loaded, best, base = found.loaded, found.result["best"], found.loaded.base
    uri = tracking_uri(home())
    try:
        run = find_run(uri, base.name, best["run"]) if best else None
        tags = tags_of(uri, run) if run else {}
    except TrackingError:  # the page is of what lies in out/
        run, tags = None, {}
    dirty = " (with uncommitted changes)" if tags.get("langevin.git_dirty") == "true" else ""
    try:
        data = Manifest.load(within_home(base.data.root))
        digest = f"{data.name} {data.digest}"
    except DataError as error:
        digest = f"{error}"
    named = {
        "code": f"{tags['langevin.git_commit']}{dirty}" if "langevin.git_commit" in tags else None,
        "data set": digest,
        "recipe": f"{loaded.search.recipe}, sha256 {sha256(loaded.path.parent / loaded.search.recipe)}",
        "search": f"{loaded.path.name}, sha256 {sha256(loaded.path)}",
        "best run": best and f"{best['run']} (MLflow {run or 'not delivered'})",
        "best checkpoint": best and f"{best['images']:,} images, {best['checkpoint']}, sha256 {best['sha256']}",
        "its recipe": best and str((found.folder / "best.yaml").relative_to(home())),
    }
    return tuple((name, value) for name, value in named.items() if value)


def opening(found: Found) -> Report:
    """The page without its sections."""
    search, result = found.loaded.search, found.result
    method, aims = found.loaded.base.model.method, _and([LABELS[name] for name in search.objectives])
    return Report(
        title=search.name,
        subtitle=f"A search of {result['recipe']} ({method}): {_by(found)}, for {aims}",
        generated=datetime.now(UTC).isoformat(timespec="seconds"),
        headline=_head(found),
        lineage=_lineage(found),
    )  # fmt: skip


def _by(found: Found) -> str:
    search = found.loaded.search
    chosen = {"grid": "every combination", "random": f"{search.trials} combinations drawn by chance",
              "optuna": f"{search.trials} combinations that Optuna chose"}[search.algorithm]  # fmt: skip
    stopped = {"none": "", "halving": " with successive halving", "asha": " with asynchronous successive halving",
               "population": ", as a population whose worst go on from the states of its best"}  # fmt: skip
    return f"{chosen} of {len(search.training)} training knobs{stopped[search.scheduler]}"


def _around(best: dict[str, Any], name: str) -> str:
    if name == "fid" and best["interval"]:
        low, high = best["interval"]
        return f"{number(low)} to {number(high)}, of {best['n']:,} samples"
    return {"network_calls": "of a sample", "nll": "bits/dim"}.get(name, "of the best")


def _and(names: list[str]) -> str:
    *before, last = names
    return f"{', '.join(before)} and {last}" if before else last


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
