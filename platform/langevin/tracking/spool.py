"""The journal of a run on durable storage: what was reported, in order, and how far MLflow has it.

``records.jsonl`` holds one record a line and only ever grows; ``position.json`` says which MLflow run has it up to
which byte; ``payload/`` holds images and files until they are delivered; ``refused.jsonl`` what MLflow will never take.
Lines are kept after delivery, so that a store that lost the run is filled again from the start.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from langevin.errors import ConfigError

_LOG = logging.getLogger(__name__)

Record = dict[str, Any]


@dataclass(frozen=True)
class Position:
    """How far delivery came. run_id: the MLflow run that has it (None: nothing yet); offset: bytes of the journal."""

    run_id: str | None = None
    offset: int = 0


@dataclass(frozen=True)
class Entry:
    """A record of the journal and the byte after it. ``record`` is None for a line that a crash cut short."""

    record: Record | None
    end: int


class Spool:
    """Appends records and reads them back. Safe for several threads, and for processes that share the folder.

    folder: made where missing; owner: experiment and name of the run. Raises ConfigError for a spool of another run.
    """

    def __init__(self, folder: Path, owner: dict[str, str]) -> None:
        self.folder = Path(folder).resolve()
        self.payload = self.folder / "payload"
        self.payload.mkdir(parents=True, exist_ok=True)
        self._claim(owner)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._journal = os.open(self.folder / "records.jsonl", flags, 0o644)
        end = self.end()
        if end and os.pread(self._journal, 1, end - 1) != b"\n":
            os.write(self._journal, b"\n")  # the writer was killed inside a line: the next record starts its own

    def _claim(self, owner: dict[str, str]) -> None:
        path = self.folder / "owner.json"
        found = json.loads(path.read_text()) if path.exists() else None
        if found is None:
            _replace(path, json.dumps(owner))
        elif found != owner:
            raise ConfigError(
                f"belongs to the run {found.get('name')!r} of the experiment {found.get('experiment')!r}, "
                f"not to {owner['name']!r} of {owner['experiment']!r}",
                file=self.folder,
                mend="give every run a folder of its own",
            )

    def append(self, record: Record) -> None:
        """Adds one record: one write of one line, which the system keeps when this process is killed."""
        line = json.dumps(record, allow_nan=False, separators=(",", ":")).encode() + b"\n"
        if os.write(self._journal, line) != len(line):
            raise OSError(f"{self.folder}: the storage took only a part of a record")

    def keep_pixels(self, pixels: np.ndarray) -> str:
        """Stores an image raw (encoding is the deliverer's work) and returns its name in ``payload``."""
        name = f"{uuid.uuid4().hex}.npy"
        np.save(self.payload / name, pixels, allow_pickle=False)
        return name

    def keep_text(self, text: str, name: str) -> str:
        """Stores a text under a file name of its own and returns its path in ``payload``."""
        place = self._place()
        (place / name).write_text(text, encoding="utf-8")
        return str((place / name).relative_to(self.payload))

    def keep_file(self, path: Path) -> str:
        """Copies a file or folder as it is now and returns its path in ``payload``."""
        target = self._place() / path.name
        shutil.copytree(path, target) if path.is_dir() else shutil.copyfile(path, target)
        return str(target.relative_to(self.payload))

    def _place(self) -> Path:
        place = self.payload / uuid.uuid4().hex
        place.mkdir()
        return place

    def drop(self, name: str) -> None:
        """Removes a delivered payload."""
        top = self.payload / Path(name).parts[0]
        shutil.rmtree(top, ignore_errors=True) if top.is_dir() else top.unlink(missing_ok=True)

    def end(self) -> int:
        """The length of the journal in bytes."""
        return os.fstat(self._journal).st_size

    def read(self, offset: int, limit: int = 1 << 20) -> list[Entry]:
        """Whole records from a byte on, about ``limit`` bytes of them (one record at least, where there is one)."""
        block = os.pread(self._journal, limit, offset)
        while block and b"\n" not in block and offset + len(block) < self.end():
            block += os.pread(self._journal, limit, offset + len(block))
        entries = []
        for line in block[: block.rfind(b"\n") + 1].splitlines(keepends=True):
            offset += len(line)
            entries.append(Entry(_parsed(line, self.folder), offset))
        return entries

    def position(self) -> Position:
        try:
            return Position(**json.loads((self.folder / "position.json").read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return Position()  # everything is offered again; what MLflow has is not logged twice

    def advance(self, position: Position) -> None:
        """Notes how far delivery came. A kill before this note costs a second look, never a second point."""
        _replace(self.folder / "position.json", json.dumps(asdict(position)))

    def refuse(self, record: Record, reason: str) -> None:
        """Sets aside a record that MLflow will never take, so that the ones behind it get through."""
        with (self.folder / "refused.jsonl").open("a", encoding="utf-8") as handle:
            handle.write(json.dumps({**record, "reason": reason}) + "\n")

    @contextmanager
    def turn(self) -> Iterator[bool]:
        """True while this process alone may deliver; False where another one is at it."""
        with (self.folder / "turn.lock").open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def close(self) -> None:
        journal, self._journal = self._journal, -1  # a later append fails instead of writing to whatever has the number
        os.close(journal)


def _parsed(line: bytes, folder: Path) -> Record | None:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if isinstance(record, dict):
        return record
    if line.strip():
        _LOG.warning("%s: skipped a record that a crash cut short: %r", folder, line[:80])
    return None


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
