"""What a data set is: ``manifest.json``, written last, so that a root with a manifest is a data set that is whole."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from langevin.data.files import replacing
from langevin.errors import DataError

MANIFEST = "manifest.json"
SCHEMA = 1
PREPARE = "prepare it with `langevin prepare RECIPE` or `dvc repro prepare`"
RESTORE = "fetch it again with `dvc checkout`, or write it again with `langevin prepare RECIPE`"
SPLIT_NAME = re.compile(r"[a-z][a-z0-9_-]*")
SHARD_NAME = re.compile(r"[a-z][a-z0-9_-]*-\d{5,}\.tar")

_STRICT = ConfigDict(strict=True, extra="forbid")


@dataclass(frozen=True)
class ShardInfo:
    """One tar file. size: bytes; sha256: of the whole file, 64 hex characters; samples: how many it holds."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    name: str
    size: int
    sha256: str
    samples: int


@dataclass(frozen=True)
class Split:
    """A part of the data set ("train"): its shards in stored order, and how many samples they hold together."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    samples: int
    shards: tuple[ShardInfo, ...]


@dataclass(frozen=True)
class Latents:
    """What the latents of a data set are. codec_sha256: the weights' that made them; of: the pixels' digest.

    scale: what they were divided by before they were stored, so that their standard deviation is 1.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    codec_sha256: str
    scale: float
    of: str


@dataclass(frozen=True)
class Manifest:
    """shape: (C, H, W); levels: grey levels of a channel, 2 .. 256; classes: names, in the order of the labels.

    captions: whether every sample has one; caption_bytes: the longest one's length, where there are captions.
    latents: None for pixels; a set of latents has 0 levels and any number of channels.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    schema: int
    name: str
    shape: tuple[int, int, int]
    levels: int
    classes: tuple[str, ...]
    captions: bool
    splits: dict[str, Split]
    caption_bytes: int | None = None
    latents: Latents | None = None

    @cached_property
    def digest(self) -> str:
        """32 hex characters that name this version of the data (MLflow keeps at most 36): sha256 of all else here."""
        canonical = json.dumps(self._fields(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:32]

    def save(self, root: str | Path) -> None:
        """Writes ``manifest.json`` into root, whole or not at all."""
        with replacing(Path(root) / MANIFEST) as file:
            file.write((json.dumps({**self._fields(), "digest": self.digest}, indent=2) + "\n").encode())

    def _fields(self) -> dict[str, Any]:
        """All but what is None: data sets keep their digests when later versions can say more of others."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def load(cls, root: str | Path) -> Manifest:
        """The manifest of the data set at root. DataError: missing, unreadable, a field amiss, or changed by hand."""
        path = Path(root) / MANIFEST
        try:
            found = json.loads(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError) as error:
            raise DataError("missing data set: there is no manifest", file=path, mend=PREPARE) from error
        except (OSError, ValueError) as error:
            raise DataError(f"cannot be read as JSON ({error})", file=path, mend=RESTORE) from error
        if not isinstance(found, dict):
            raise DataError("is no JSON object", file=path, mend=RESTORE)
        if found.get("schema") != SCHEMA:
            raise _amiss(path, "schema", found.get("schema"), f"this langevin reads schema {SCHEMA}", PREPARE)
        digest = found.pop("digest", None)
        try:
            manifest = _ADAPTER.validate_json(json.dumps(found))
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            value = None if first["type"] == "missing" else first["input"]
            raise _amiss(path, field, value, first["msg"]) from error
        if digest != manifest.digest:
            raise _amiss(path, "digest", digest, f"the manifest's own content gives {manifest.digest}: it was changed")
        _check(manifest, path)
        return manifest


_ADAPTER = TypeAdapter(Manifest)


def _amiss(path: Path, field: str, value: Any, problem: str, mend: str = RESTORE) -> DataError:
    return DataError(problem, file=path, field=field, value=value, mend=mend)


def _check(manifest: Manifest, path: Path) -> None:
    """What types cannot say."""
    if manifest.latents is None:
        _check_pixels(manifest, path)
    else:
        _check_latents(manifest, manifest.latents, path)
    if manifest.captions != (manifest.caption_bytes is not None) or manifest.caption_bytes == 0:
        raise _amiss(path, "caption_bytes", manifest.caption_bytes, f"cannot be where captions = {manifest.captions}")
    for name, split in manifest.splits.items():
        field = f"splits.{name}"
        if not SPLIT_NAME.fullmatch(name):
            raise _amiss(path, field, None, "is no name of a split")
        if split.samples < 1 or split.samples != sum(shard.samples for shard in split.shards):
            raise _amiss(path, f"{field}.samples", split.samples, "is not what the shards hold together")
        for shard in split.shards:
            if not SHARD_NAME.fullmatch(shard.name):  # a path would let a manifest point outside of its root
                raise _amiss(path, f"{field}.shards", shard.name, "is no name of a shard")


def _check_pixels(manifest: Manifest, path: Path) -> None:
    if not 2 <= manifest.levels <= 256:
        raise _amiss(path, "levels", manifest.levels, "is not in 2 .. 256")
    if min(manifest.shape) < 1 or manifest.shape[0] not in (1, 3):
        raise _amiss(path, "shape", manifest.shape, "is no (C, H, W) with 1 or 3 channels")


def _check_latents(manifest: Manifest, latents: Latents, path: Path) -> None:
    if manifest.levels != 0:
        raise _amiss(path, "levels", manifest.levels, "latents have no grey levels: it must be 0")
    if min(manifest.shape) < 1:
        raise _amiss(path, "shape", manifest.shape, "is no (C, H, W)")
    if not (math.isfinite(latents.scale) and latents.scale > 0):
        raise _amiss(path, "latents.scale", latents.scale, "is no positive number")
