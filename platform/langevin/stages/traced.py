"""A model's lineage as its page tells it: from the code and the shards down to the version, and on to all that came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from langevin.config.paths import home
from langevin.stages.ancestry import ancestors, descendants
from langevin.tracking.registry import ModelVersion, Registry
from langevin.tracking.store import tracking_uri

SHARDS = 3  # of a data set's split or of a job, that are named


def lineage(version: ModelVersion, sampling: str | None, spec: str) -> tuple[tuple[str, str], ...]:
    """(name, value), from the source to what came of it. sampling: how it is sampled, spec: how it was measured."""
    registry = Registry(tracking_uri(home()))
    found, after = ancestors(registry, version), descendants(registry, version)
    code, made, run, weights = (found[name] for name in ("code", "recipe", "run", "weights"))
    aliases = "".join(f" @{alias}" for alias in sorted(version.aliases))
    return (
        ("code", f"{code['commit']}{' (with uncommitted changes)' if code['changed'] else ''}"),
        ("data set", f"{found['data']['name']} {_data(found['data'])}"),
        *([("latents", _data(found["latents"]))] if "latents" in found else []),
        ("recipe", f"{_place(made['file'] or made['name'] or version.name)}, training hash {made['training_hash']}"),
        *([("sampling", sampling)] if sampling else []),
        *(("made of", _part(part)) for part in found["made_of"]),
        ("run", f"{run['name']} (MLflow {run['mlflow'] or 'not delivered'})"),
        *(("goes on from", _start(state)) for state in found["goes_on_from"]),
        ("checkpoint", f"{weights['images']:,} images, {_place(weights['folder'])}, sha256 {weights['sha256']}"),
        ("metric spec", spec),
        ("registered", f"{version.uri}{aliases}"),
        *(("generated", _job(job)) for job in after["generated"]),
        *(("part of", uri) for uri in after["part_of"]),
    )


def _data(data: dict[str, Any]) -> str:
    said = f"{data['digest']}"
    if not data["there"]:
        return f"{said} ({data['problem']})"
    of = f" of {data['of']} by codec {data['codec_sha256'][:12]}" if "of" in data else ""
    splits = [f"{split} {held['samples']:,} in {_shards(held['shards'])}" for split, held in data["splits"].items()]
    return f"{said}{of}, in {data['root']}: {'; '.join(splits)}"


def _part(part: dict[str, Any]) -> str:
    return f"{part['recipe']} ({', '.join(part['models']) or 'not registered'}), sha256 {part['sha256']}"


def _start(state: dict[str, Any]) -> str:
    return f"{state['run']} at {state['images']:,} images, sha256 {state['sha256']}"


def _job(job: dict[str, Any]) -> str:
    said = f"{job['samples']:,} images of seed {job['seed']} in {_place(job['folder'])}, digest {job['digest']}"
    return f"{said}: {_shards(job['shards'])}" if job["there"] else f"{said}, no longer there"


def _shards(shards: list[dict[str, Any]]) -> str:
    named = ", ".join(f"{shard['name']} {shard['sha256'][:12]}" for shard in shards[:SHARDS])
    more = f" and {len(shards) - SHARDS:,} more" if len(shards) > SHARDS else ""
    return f"{named}{more}"


def _place(folder: str) -> str:
    """Below the home, where it is there: a page may be sent to others."""
    path = Path(folder)
    return str(path.relative_to(home())) if path.is_relative_to(home()) else folder
