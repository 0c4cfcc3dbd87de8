"""A data set's latents as a data set of their own: made once by a codec, then read like images."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
from torch import Tensor

from langevin.data.manifest import Latents, Manifest
from langevin.data.records import texts_of
from langevin.data.shards import UNSEEN, Progress, Sample, Tally, encode_caption, write_splits
from langevin.errors import DataError
from langevin.protocols import Batch


@dataclass(frozen=True)
class LatentBatch:
    """Some of a split's samples in stored order. latents: (N, C, h, w), divided by their scale; captions: N texts."""

    split: str
    keys: Sequence[str]
    latents: np.ndarray
    labels: Sequence[int]
    captions: Sequence[str] | None = None

    @classmethod
    def of(cls, split: str, pixels: Batch, latents: Tensor) -> LatentBatch:
        """The latents of a batch of images, under its keys, labels and captions."""
        assert pixels.labels is not None  # every data set has them
        captions = None if pixels.captions is None else texts_of(pixels.captions)
        return cls(split, pixels.keys, latents.cpu().numpy(), pixels.labels.tolist(), captions)


def write_latents(
    root: str | Path,
    pixels: Manifest,
    batches: Iterable[LatentBatch],
    *,
    codec_sha256: str,
    scale: float,
    shard_samples: int,
    progress: Progress = UNSEEN,
) -> Manifest:
    """Shards of float16 latents, index and, last, the manifest: the same latents, the same bytes, however batched.

    pixels: the manifest of the images that they were made of; batches: all of one split's after the other's; scale: what
    they were divided by. DataError: not the samples of ``pixels``, of several shapes, or beyond what float16 holds.
    """
    total = sum(split.samples for split in pixels.splits.values())
    tally, encoder = Tally(total, progress), _Encoder(pixels)
    streams = (
        (split, tally.of(encoder.samples(parts))) for split, parts in groupby(batches, key=lambda batch: batch.split)
    )
    splits = write_splits(Path(root), streams, shard_samples)
    found = {name: split.samples for name, split in splits.items()}
    expected = {name: split.samples for name, split in pixels.splits.items()}
    if found != expected:
        raise DataError("latents of other samples than the images", file=root, field="splits", value=found,
                        mend=f"the images have {expected}")  # fmt: skip
    assert encoder.shape is not None  # no data set is empty
    made = replace(
        pixels,
        shape=encoder.shape,
        levels=0,
        splits={name: splits[name] for name in pixels.splits},
        caption_bytes=tally.caption_bytes if pixels.captions else None,
        latents=Latents(codec_sha256, float(scale), pixels.digest),
    )
    made.save(root)
    return made


class _Encoder:
    """Batches to the members of their samples; the first one decides the shape."""

    def __init__(self, pixels: Manifest) -> None:
        self.classes, self.captions = pixels.classes, pixels.captions
        self.shape: tuple[int, int, int] | None = None

    def samples(self, batches: Iterable[LatentBatch]) -> Iterator[Sample]:
        for batch in batches:
            latents = self._checked(batch)
            captions: Sequence[str | None] = batch.captions or [None] * len(batch.keys)
            for key, latent, label, caption in zip(batch.keys, latents, batch.labels, captions, strict=True):
                facts = {"key": key, "label": label, "class": self.classes[label]}
                text = json.dumps(facts, sort_keys=True, ensure_ascii=False)
                members = {"npy": encode_array(latent), "cls": str(label).encode(), "json": text.encode()}
                if self.captions:
                    members["txt"] = encode_caption(key, caption)
                yield key, members

    def _checked(self, batch: LatentBatch) -> np.ndarray:
        """float16 (N, C, h, w)."""
        with np.errstate(over="ignore"):  # it is named below
            latents = batch.latents.astype("<f2")
        self.shape = self.shape or latents.shape[1:]
        if latents.ndim != 4 or latents.shape[1:] != self.shape:
            raise DataError("is no (N, C, h, w) of the shape before", field="latents", value=latents.shape)
        finite = np.isfinite(latents).all(axis=(1, 2, 3))
        if not finite.all():
            key = batch.keys[int(np.argmin(finite))]
            raise DataError("a latent is not finite in float16", field=key, mend="divide by a larger scale")
        return latents


def encode_array(array: np.ndarray) -> bytes:
    """An array as npy, without pickles, the same bytes for the same values."""
    out = io.BytesIO()
    np.lib.format.write_array(out, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return out.getvalue()
