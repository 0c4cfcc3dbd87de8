"""A sample's record, from bytes to pixels. Only formats that cannot run code are decoded; nothing is ever unpickled."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from langevin.data.manifest import RESTORE, Manifest
from langevin.data.quantisation import from_bytes
from langevin.errors import DataError

PICTURES = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP"}
IMAGES = frozenset({*PICTURES, "npy"})
SAFE = IMAGES | {"cls", "txt", "json"}


@dataclass(frozen=True)
class Place:
    """Where a sample lies, for messages. offset: of its record in the shard, in bytes."""

    shard: Path
    key: str
    offset: int

    def error(self, problem: str, mend: str = RESTORE) -> DataError:
        return DataError(f"{problem} (record at offset {self.offset})", file=self.shard, field=self.key, mend=mend)


def decode(record: bytes, place: Place, manifest: Manifest) -> tuple[np.ndarray, int]:
    """Pixels as stored, uint8 (C, H, W), and the label. DataError: unsafe, or not what the manifest says."""
    members = split_members(record, place)
    images = sorted(IMAGES & members.keys())
    if len(images) != 1 or "cls" not in members:
        raise place.error(f"a sample has one image and one cls, this one has {', '.join(sorted(members)) or 'nothing'}")
    pixels = _pixels(images[0], members[images[0]], place, manifest.shape)
    try:
        from_bytes(torch.from_numpy(pixels), manifest.levels)
    except DataError as error:
        raise place.error(f"{error.problem}: {error.value}") from error
    return pixels, _label(members["cls"], place, len(manifest.classes))


def split_members(record: bytes, place: Place) -> dict[str, bytes]:
    """Ending -> content of the members of a record. DataError: a member of another sample, or of an unsafe kind."""
    members = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(record), mode="r:") as tar:
            for info in tar:
                key, _, ending = info.name.rpartition(".")
                if key != place.key:
                    raise place.error(f"the record holds {info.name!r}, a member of another sample")
                content = tar.extractfile(info) if info.isreg() else None
                if ending not in SAFE or content is None:
                    mend = f"only {', '.join(sorted(SAFE))} are read; write the data set again without it"
                    raise place.error(f"the member {info.name!r} is not of a safe kind", mend)
                members[ending] = content.read()
    except tarfile.TarError as error:
        raise place.error(f"the record is no tar ({error})") from error
    return members


def _pixels(ending: str, data: bytes, place: Place, shape: tuple[int, int, int]) -> np.ndarray:
    height, width = shape[1:]
    mode = "L" if shape[0] == 1 else "RGB"
    try:
        if ending == "npy":
            stored = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
        else:
            with Image.open(io.BytesIO(data), formats=[PICTURES[ending]]) as image:
                if image.size != (width, height):  # before decoding: a small file can unpack to gigabytes
                    raise place.error(f"the image has {image.height} x {image.width} pixels, not {height} x {width}")
                if image.mode != mode:  # a palette's numbers would pass for grey levels
                    raise place.error(f"the image is of mode {image.mode}, not {mode}")
                stored = np.array(image)
    except (OSError, ValueError, SyntaxError, MemoryError, Image.DecompressionBombError) as error:
        raise place.error(f"the {ending} cannot be decoded ({error})") from error
    pixels = stored[None] if stored.ndim == 2 else np.moveaxis(stored, -1, 0)
    if pixels.shape != shape or pixels.dtype != np.uint8:
        raise place.error(f"the image is {pixels.dtype} of shape {pixels.shape}, not uint8 of {shape}")
    return np.ascontiguousarray(pixels)


def _label(text: bytes, place: Place, classes: int) -> int:
    if not text.isdigit() or int(text) >= classes:
        raise place.error(f"the label {text[:20]!r} is no number below {classes}")
    return int(text)
