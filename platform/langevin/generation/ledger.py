"""Which units are done. A unit is done when its record is there, and the shard beside it is the one recorded."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from langevin.data.files import TEMPORARY, replacing
from langevin.errors import ConfigError, LangevinError
from langevin.generation.gate import Gate
from langevin.generation.plan import Request, Unit, units

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class UnitRecord:
    """A finished unit: its shard's name, size in bytes and sha256, its images and what the gate saw of them."""

    index: int
    start: int
    stop: int
    shard: str
    size: int
    sha256: str
    request: str
    gate: dict[str, Any]


def record(folder: Path, unit: Unit, request: Request, size: int, sha256: str, gate: Gate) -> UnitRecord:
    """Writes the record of a unit whose shard is complete."""
    made = UnitRecord(unit.index, unit.start, unit.stop, f"{unit.name}.tar", size, sha256, request.digest, asdict(gate))
    _write(folder / f"{unit.name}.json", asdict(made))
    return made


def done(folder: Path, request: Request) -> dict[int, UnitRecord]:
    """The finished units by index. What a killed writer left half-done is removed.

    ConfigError where the folder holds another request's images.
    """
    if request_of(folder) not in (None, request.digest):
        raise ConfigError(
            "holds the images of another request", file=folder, field="request", value=request_of(folder),
            mend="give another folder, or remove this one",
        )  # fmt: skip
    for leftover in folder.glob(f"*{TEMPORARY}"):
        leftover.unlink()
    records = (_read(folder / f"{unit.name}.json") for unit in units(request))
    return {found.index: found for found in records if found and _is_whole(folder, found)}


def request_of(folder: Path) -> str | None:
    """The digest of the request whose images lie in a folder, None where there are none."""
    for path in sorted(folder.glob("samples-*.json")):
        if found := _read(path):
            return found.request
    return None


def finish(folder: Path, request: Request) -> dict[str, Any]:
    """Writes the manifest, last of all, and returns it. LangevinError while a unit is missing."""
    records = done(folder, request)
    missing = [unit.index for unit in units(request) if unit.index not in records]
    if missing:
        raise LangevinError(f"{len(missing)} units are missing in {folder}, the first of them {missing[0]}")
    found = [records[index] for index in sorted(records)]
    shards = [
        {"name": one.shard, "size": one.size, "sha256": one.sha256, "samples": one.stop - one.start} for one in found
    ]
    manifest = {
        "schema": 1,
        "request": request.plain(),
        "request_digest": request.digest,
        "samples": request.n,
        "shards": shards,
        "gate": {one.shard: one.gate for one in found},
        "digest": hashlib.sha256(json.dumps(shards, sort_keys=True).encode()).hexdigest()[:32],
    }
    _write(folder / MANIFEST, manifest)
    return manifest


def _is_whole(folder: Path, found: UnitRecord) -> bool:
    path = folder / found.shard
    if not path.is_file() or path.stat().st_size != found.size:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == found.sha256


def _read(path: Path) -> UnitRecord | None:
    try:
        return UnitRecord(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None  # not there, or not a record: the unit is done again


def _write(path: Path, values: dict[str, Any]) -> None:
    with replacing(path) as file:
        file.write(json.dumps(values, indent=1, sort_keys=True).encode())
