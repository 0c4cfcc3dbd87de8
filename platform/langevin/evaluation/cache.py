"""Features of real images, kept on disk by what they are features of: an unchanged set is looked at once."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from langevin.evaluation.extractors import Extractor

_TENSOR, _DIGEST = "features", "sha256"


@dataclass(frozen=True)
class FeatureCache:
    """A folder with a file for each (extractor, content): safetensors with the sha256 of what is in it.

    A file that is damaged, or of fewer images, counts as none: it is computed again and replaced. Files are written whole
    under another name first, so that of two evaluations side by side neither reads half of the other's.
    """

    folder: Path

    def features(self, extractor: Extractor, images: Tensor, content: Mapping[str, str]) -> Tensor:
        """(N, d) float32. images: (N, C, H, W) uint8; content: what they are, such as data set digest, split, levels."""
        named = {"extractor": extractor.name, "extractor_sha256": extractor.sha256, **content}
        name = hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()
        path = self.folder / f"{name[:32]}.safetensors"
        found = _read(path, (len(images), extractor.dim))
        if found is None:
            found = extractor.features(images).features.contiguous()
            _write(path, found, named)
        return found


def _read(path: Path, shape: tuple[int, int]) -> Tensor | None:
    """The features, None where there are none that can be trusted."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            claimed, features = (file.metadata() or {}).get(_DIGEST), file.get_tensor(_TENSOR)
    except (OSError, safetensors.SafetensorError):
        return None
    trusted = tuple(features.shape) == shape and features.dtype == torch.float32 and _digest(features) == claimed
    return features if trusted else None


def _write(path: Path, features: Tensor, named: Mapping[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(safetensors.torch.save({_TENSOR: features}, {**named, _DIGEST: _digest(features)}))
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _digest(features: Tensor) -> str:
    return hashlib.sha256(features.numpy().tobytes()).hexdigest()
