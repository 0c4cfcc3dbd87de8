"""A unit of work as one deterministic shard: the same request gives the same bytes, whoever writes it and how often."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from langevin.data.quantisation import quantise, to_bytes
from langevin.data.shards import encode_png, write_shard
from langevin.errors import NumericsError
from langevin.generation.gate import check
from langevin.generation.ledger import UnitRecord, record
from langevin.generation.plan import Request, Unit
from langevin.protocols import Samples
from langevin.randomness import Keys

CPU = torch.device("cpu")
AT_A_TIME = 64  # images: a GPU takes them as one batch, and units may be large


def write_unit(unit: Unit, request: Request, model: Samples, folder: Path, device: torch.device = CPU) -> UnitRecord:
    """Samples the unit's images and writes its shard, then its record, which is what makes it done.

    Members: KEY.png on the data's grey levels, KEY.cls (of a model that reads: KEY.txt, the prompt), KEY.json (ordinal, seed,
    label and class or prompt, model). NumericsError names samples that are not finite. device: where the model is.
    """
    starts = range(unit.start, unit.stop, AT_A_TIME)
    images = torch.cat([_drawn(model, request, start, min(start + AT_A_TIME, unit.stop), device) for start in starts])
    broken = (~images.flatten(1).isfinite().all(1)).nonzero().flatten()
    if len(broken):
        raise NumericsError(f"samples {(broken + unit.start).tolist()} of {request.model} are not finite")
    stored = to_bytes(quantise(images, request.levels), request.levels).to(torch.uint8).numpy()
    folder.mkdir(parents=True, exist_ok=True)
    shard = write_shard(folder / f"{unit.name}.tar", _members(unit, request, stored))
    return record(folder, unit, request, shard.info.size, shard.info.sha256, check(stored))


def _drawn(model: Samples, request: Request, start: int, stop: int, device: torch.device) -> Tensor:
    keys = Keys.range(request.seed, start, stop).to(device)
    return model.sample(keys, request.asked.cond(start, stop).to(device)).cpu()


@dataclass(frozen=True)
class Generated:
    """What a finished job holds, in the samples' order. images: (N, C, H, W) uint8; labels: (N,) int64, of a model that is
    told classes; prompts: N texts, of one that reads. The other is None.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    prompts: tuple[str, ...] | None


def read_images(folder: Path) -> Generated:
    """All images of a finished job and what they were asked for."""
    found: dict[str, list[Any]] = {"png": [], "cls": [], "txt": []}
    for path in sorted(folder.glob("samples-*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                content = tar.extractfile(member)
                assert content is not None  # write_shard makes plain files only
                ending = member.name.rpartition(".")[2]
                if ending in found:
                    found[ending].append(_READ[ending](content.read()))
    labels = np.asarray(found["cls"], dtype=np.int64) if found["cls"] else None
    return Generated(np.stack(found["png"]), labels, tuple(found["txt"]) or None)


def _pixels(content: bytes) -> NDArray[np.uint8]:
    """(C, H, W)."""
    pixels = np.asarray(Image.open(io.BytesIO(content)))
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


_READ: dict[str, Callable[[bytes], Any]] = {"png": _pixels, "cls": int, "txt": bytes.decode}


def _members(unit: Unit, request: Request, images: NDArray[np.uint8]) -> Iterator[tuple[str, dict[str, bytes]]]:
    asked = request.asked
    for ordinal, image in enumerate(images, unit.start):
        told = asked.told(ordinal)
        said = {"ordinal": ordinal, "seed": request.seed, "model": request.model, **told.facts}
        pixels = image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0)
        yield (
            f"sample-{ordinal:09d}",
            {"png": encode_png(pixels), "json": json.dumps(said, sort_keys=True).encode(), **told.members},
        )
