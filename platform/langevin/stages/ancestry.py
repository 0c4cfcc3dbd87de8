"""A registered version's lineage, both ways: to the shards, recipe, code and models it comes from, and to all that came of it."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from langevin.cluster.training import START
from langevin.config.paths import within_home
from langevin.config.recipe import run_name
from langevin.data.manifest import Manifest, Split
from langevin.errors import CheckpointError, DataError
from langevin.generation.ledger import MANIFEST
from langevin.generation.plan import Request
from langevin.tracking.registry import CHECKPOINT_TAG, ModelVersion, Registry
from langevin.training import checkpoint as checkpoints

MADE_OF = "langevin.made_of."  # + the part's recipe: the sha256 of its weights
GENERATED = "langevin.generated."  # + the job: where it wrote, as JSON


def record_generated(registry: Registry, version: ModelVersion, request: Request, folder: Path, digest: str) -> None:
    """Notes on the version that images of it lie in a folder, once for each folder. digest: the job's manifest's."""
    place = str(folder.absolute())
    said = {
        "folder": place,
        "request": request.digest,
        "samples": request.n,
        "seed": request.seed,
        "digest": digest,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    job = f"{request.digest}.{hashlib.sha256(place.encode()).hexdigest()[:8]}"
    registry.tag_version(version.name, version.version, {f"{GENERATED}{job}": json.dumps(said)})


def parts(said: dict[str, Any]) -> list[dict[str, Any]]:
    """What a model's description says of the models that it is made of: its codec, or its stages from the smallest up."""
    found: list[dict[str, Any]] = [*([said["codec"]] if "codec" in said else []), *said.get("parts", [])]
    return found


def ancestors(registry: Registry, version: ModelVersion) -> dict[str, Any]:
    """recipe, code, run, data (and latents), checkpoint, made_of, goes_on_from. What is not known is None."""
    tags = {name.removeprefix("langevin."): value for name, value in version.tags.items()}
    weights, said = _checkpoint(version, tags)
    dirty = tags.get("git_dirty")
    found = {
        "recipe": {
            "name": tags.get("recipe"),
            "file": tags.get("recipe_file"),
            "sha256": tags.get("recipe_sha256"),
            "training_hash": tags.get("recipe_hash"),
        },
        "code": {"commit": tags.get("git_commit"), "changed": None if dirty is None else dirty == "true"},
        "run": {"name": tags.get("run_name"), "mlflow": version.run_id},
        "data": {"name": tags.get("dataset_name"), **_data(tags.get("dataset_root"), tags.get("dataset_digest"))},
    }
    if "latents_digest" in tags:
        found["latents"] = _data(tags.get("latents_root"), tags["latents_digest"])
    return found | {
        "weights": weights,
        "made_of": [_part(registry, part) for part in parts(said)],
        "goes_on_from": starts(registry, Path(version.source).parents[1]),
    }


def starts(registry: Registry, run: Path) -> list[dict[str, Any]]:
    """The states of other trainings that a training goes on from, as a population's do, the nearest first. run: its folder."""
    found = []
    while (start := run / START).is_dir():
        try:
            state = checkpoints.read(start)
            run = run.with_name(run_name(state.model["recipe"], state.model["training"]))
        except (CheckpointError, KeyError):  # damaged: what came before is not known
            break
        models = [one.uri for one in registry.tagged(CHECKPOINT_TAG, state.sha256)]
        found.append({"run": run.name, "images": state.images, "sha256": state.sha256, "models": models})
    return found


def descendants(registry: Registry, version: ModelVersion) -> dict[str, Any]:
    """generated: the batch jobs, the oldest first, with their shards where they still lie; part_of: registered versions that
    are made of this one.
    """
    sha256, recipe = version.tags.get(CHECKPOINT_TAG), version.tags.get("langevin.recipe")
    made = registry.tagged(f"{MADE_OF}{recipe}", sha256) if sha256 and recipe else []
    jobs = [json.loads(value) for tag, value in version.tags.items() if tag.startswith(GENERATED)]
    return {
        "generated": [_job(job) for job in sorted(jobs, key=lambda job: (job["time"], job["folder"]))],
        "part_of": [found.uri for found in made],
    }


def _checkpoint(version: ModelVersion, tags: dict[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is known of the weights, and what the checkpoint says of its model, nothing where it is gone or another."""
    images = tags.get("images")
    known = {"folder": version.source, "sha256": tags.get("checkpoint_sha256"), "images": images and int(images)}
    try:
        found = checkpoints.read(Path(version.source))
    except CheckpointError as error:
        return known | {"there": False, "problem": error.problem}, {}
    if found.sha256 != known["sha256"]:
        return known | {"there": False, "problem": f"other weights lie there, sha256 {found.sha256[:12]}"}, {}
    return known | {"there": True}, found.model


def _data(root: str | None, digest: str | None) -> dict[str, Any]:
    """A data set's shards by split, where the very version that was read still lies at its root."""
    known: dict[str, Any] = {"digest": digest, "root": root}
    if root is None:
        return known | {"there": False, "problem": "where it lay was not recorded"}
    try:
        manifest = Manifest.load(within_home(root))
    except DataError as error:
        return known | {"there": False, "problem": error.problem}
    if manifest.digest != digest:
        return known | {"there": False, "problem": f"another version lies there, {manifest.digest}"}
    splits = {name: _split(split) for name, split in manifest.splits.items()}
    codec = {"codec_sha256": manifest.latents.codec_sha256, "of": manifest.latents.of} if manifest.latents else {}
    return known | {"there": True, **codec, "splits": splits}


def _split(split: Split) -> dict[str, Any]:
    shards = [{"name": one.name, "samples": one.samples, "sha256": one.sha256} for one in split.shards]
    return {"samples": split.samples, "shards": shards}


def _part(registry: Registry, part: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint that was written before parts were recorded by their weights names its training alone."""
    sha256 = part.get("sha256")
    registered = registry.tagged(CHECKPOINT_TAG, sha256) if sha256 else []
    return {
        "recipe": part["recipe"],
        "training_hash": part.get("training"),
        "sha256": sha256,
        "models": [found.uri for found in registered],
    }


def _job(job: dict[str, Any]) -> dict[str, Any]:
    """The job with its shards, as long as its folder holds what it wrote."""
    try:
        manifest = json.loads((Path(job["folder"]) / MANIFEST).read_text())
        there = manifest["digest"] == job["digest"]
    except (OSError, ValueError, KeyError):
        there = False
    return job | {"there": there, **({"shards": manifest["shards"]} if there else {})}
