"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

TEMPORARY = ".tmp"  # the ending of a file that is still being written; a killed writer leaves one behind


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
