"""A unit of work as one deterministic shard: the same request gives the same bytes, whoever writes it and how often."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

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


def write_unit(unit: Unit, request: Request, model: Samples, folder: Path) -> UnitRecord:
    """Samples the unit's images and writes its shard, then its record, which is what makes it done.

    Members: KEY.png on the data's grey levels, KEY.cls, KEY.json (ordinal, seed, label, class, model).
    NumericsError names samples that are not finite.
    """
    labels = torch.tensor([request.label_of(index) for index in range(unit.start, unit.stop)])
    images = model.sample(Keys.range(request.seed, unit.start, unit.stop), labels)
    broken = (~images.flatten(1).isfinite().all(1)).nonzero().flatten()
    if len(broken):
        raise NumericsError(f"samples {(broken + unit.start).tolist()} of {request.model} are not finite")
    stored = to_bytes(quantise(images, request.levels), request.levels).to(torch.uint8).numpy()
    folder.mkdir(parents=True, exist_ok=True)
    shard = write_shard(folder / f"{unit.name}.tar", _members(unit, request, stored, labels))
    return record(folder, unit, request, shard.info.size, shard.info.sha256, check(stored))


def read_images(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All images (N, C, H, W) uint8 and labels (N,) of a finished job, in the samples' order."""
    images, labels = [], []
    for path in sorted(folder.glob("samples-*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                content = tar.extractfile(member)
                assert content is not None  # write_shard makes plain files only
                if member.name.endswith(".png"):
                    pixels = np.asarray(Image.open(content))
                    images.append(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))
                elif member.name.endswith(".cls"):
                    labels.append(int(content.read()))
    return np.stack(images), np.asarray(labels, dtype=np.int64)


def _members(
    unit: Unit, request: Request, images: NDArray[np.uint8], labels: Tensor
) -> Iterator[tuple[str, dict[str, bytes]]]:
    for offset, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        ordinal = unit.start + offset
        said = {
            "ordinal": ordinal,
            "seed": request.seed,
            "label": label,
            "class": request.classes[label],
            "model": request.model,
        }
        pixels = image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0)
        yield (
            f"sample-{ordinal:09d}",
            {"png": encode_png(pixels), "cls": str(label).encode(), "json": json.dumps(said, sort_keys=True).encode()},
        )
