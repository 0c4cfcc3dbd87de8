"""Files as wholes: there or not at all, and known by what is in them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

TEMPORARY = ".tmp"  # the ending of a file that is still being written; a killed writer leaves one behind
READ_BYTES = 2**20  # at a time: a network's weights may be larger than the memory that is free


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new binary file that takes path's place when the block ends well, and vanishes when it does not."""
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # else a power cut could keep the name and lose the bytes
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sha256(*paths: Path) -> str:
    """Of what is in the files, one after the other, in hexadecimal. They are read again only where the size or the time of
    change of one is another.
    """
    stats = [path.stat() for path in paths]
    return _sha256(tuple((path, stat.st_size, stat.st_mtime_ns) for path, stat in zip(paths, stats, strict=True)))


@lru_cache
def _sha256(files: tuple[tuple[Path, int, int], ...]) -> str:
    found = hashlib.sha256()
    for path, _, _ in files:
        with path.open("rb") as content:
            while part := content.read(READ_BYTES):
                found.update(part)
    return found.hexdigest()
