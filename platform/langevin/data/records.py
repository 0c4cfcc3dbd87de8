"""A sample's record, from bytes to arrays. Only formats that cannot run code are decoded; nothing is ever unpickled."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

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


class Stored(NamedTuple):
    """A sample as stored. values: (C, H, W), uint8 pixels or float16 latents; caption: in UTF-8, empty without one."""

    values: np.ndarray
    label: int
    caption: bytes


def decode(record: bytes, place: Place, manifest: Manifest) -> Stored:
    """The sample of a record. DataError: unsafe, or not what the manifest says."""
    members = split_members(record, place)
    images = sorted(IMAGES & members.keys())
    if len(images) != 1 or "cls" not in members:
        raise place.error(f"a sample has one image and one cls, this one has {', '.join(sorted(members)) or 'nothing'}")
    read = _pixels if manifest.latents is None else _latent
    values = read(images[0], members[images[0]], place, manifest)
    caption = _caption(members.get("txt"), place, manifest.caption_bytes) if manifest.caption_bytes else b""
    return Stored(values, _label(members["cls"], place, len(manifest.classes)), caption)


def texts_of(captions: Tensor) -> list[str]:
    """The texts of a batch's captions, (B, L) int64: their bytes up to the zeros."""
    return [bytes(row[row > 0].tolist()).decode() for row in captions]


def as_captions(texts: Sequence[str]) -> Tensor:
    """Texts as a batch holds captions, the inverse of ``texts_of``: (B, L) int64, L the longest one's bytes, at least 1.

    DataError: one with a zero byte, which would end it where it is read.
    """
    rows = [text.encode() for text in texts]
    for text, row in zip(texts, rows, strict=True):
        if 0 in row:
            raise DataError("holds a zero byte", field="caption", value=text, mend="remove it")
    longest = max(1, *map(len, rows))
    return torch.tensor([list(row.ljust(longest, b"\0")) for row in rows], dtype=torch.int64)


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


def _pixels(ending: str, data: bytes, place: Place, manifest: Manifest) -> np.ndarray:
    """uint8 (C, H, W), every byte one of the grey levels."""
    stored = _picture(ending, data, place, manifest.shape)
    pixels = stored[None] if stored.ndim == 2 else np.moveaxis(stored, -1, 0)
    if pixels.shape != manifest.shape or pixels.dtype != np.uint8:
        raise place.error(f"the image is {pixels.dtype} of shape {pixels.shape}, not uint8 of {manifest.shape}")
    pixels = np.ascontiguousarray(pixels)
    try:
        from_bytes(torch.from_numpy(pixels), manifest.levels)
    except DataError as error:
        raise place.error(f"{error.problem}: {error.value}") from error
    return pixels


def _latent(ending: str, data: bytes, place: Place, manifest: Manifest) -> np.ndarray:
    """float16 (C, h, w), finite."""
    if ending != "npy":
        raise place.error(f"the data set holds latents, and this sample a {ending}")
    latent = _picture(ending, data, place, manifest.shape)
    if latent.shape != manifest.shape or latent.dtype != np.float16:
        raise place.error(f"the latent is {latent.dtype} of shape {latent.shape}, not float16 of {manifest.shape}")
    if not np.isfinite(latent).all():
        raise place.error("the latent holds values that are not finite")
    return latent


def _picture(ending: str, data: bytes, place: Place, shape: tuple[int, int, int]) -> np.ndarray:
    """The array of a picture or of an npy, as it lies there."""
    height, width = shape[1:]
    mode = "L" if shape[0] == 1 else "RGB"
    try:
        if ending == "npy":
            return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
        with Image.open(io.BytesIO(data), formats=[PICTURES[ending]]) as image:
            if image.size != (width, height):  # before decoding: a small file can unpack to gigabytes
                raise place.error(f"the image has {image.height} x {image.width} pixels, not {height} x {width}")
            if image.mode != mode:  # a palette's numbers would pass for grey levels
                raise place.error(f"the image is of mode {image.mode}, not {mode}")
            return np.array(image)
    except (OSError, ValueError, SyntaxError, MemoryError, Image.DecompressionBombError) as error:
        raise place.error(f"the {ending} cannot be decoded ({error})") from error


def _caption(text: bytes | None, place: Place, longest: int) -> bytes:
    if text is None:
        raise place.error("a sample of this data set has a txt, and this one none")
    if len(text) > longest:
        raise place.error(f"the caption has {len(text)} bytes, and the longest of the data set {longest}")
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise place.error(f"the caption is no text in UTF-8 ({error})") from error
    if 0 in text:  # zeros stand behind a caption
        raise place.error("the caption holds a zero byte")
    return text


def _label(text: bytes, place: Place, classes: int) -> int:
    if not text.isdigit() or int(text) >= classes:
        raise place.error(f"the label {text[:20]!r} is no number below {classes}")
    return int(text)
