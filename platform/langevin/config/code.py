"""The code that decides what a training computes, as a hash: other code is another training."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

DECIDES = (
    "randomness.py", "config/parts.py", "config/table.py", "config/load.py", "diffusion", "methods", "networks", "training",
    "data/images.py", "data/order.py", "data/quantisation.py", "data/reader.py", "data/records.py",
)  # fmt: skip


@functools.cache
def code_digest() -> str:
    """12 hex digits of the sha256 of the source files, by name."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for part in DECIDES:
        place = package / part
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            digest.update(f"{path.relative_to(package).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
