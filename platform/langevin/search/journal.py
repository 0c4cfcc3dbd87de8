"""What a search has found, line by line: the one thing that it goes on from after a kill. Only its driver writes it."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langevin.errors import ConfigError
from langevin.search.space import Settings


@dataclass
class Trial:
    """One training of the search. run: its name, which is its identity; figures: one table a rung that it has reached, of
    images, seconds and the objectives; stopped: why it went no further, "" where nothing stopped it.
    """

    run: str
    knobs: Settings
    figures: list[dict[str, float]] = field(default_factory=list)
    stopped: str = ""


class Journal:
    """The trials in the order in which they were begun, and ``reached``: (run, rung) in the order of the results."""

    def __init__(self, path: Path, handle: int) -> None:
        self._path, self._handle = path, handle
        self.trials: dict[str, Trial] = {}
        self.reached: list[tuple[str, int]] = []
        self.seconds = 0.0
        whole = path.read_bytes()
        whole = whole[: whole.rfind(b"\n") + 1]  # a kill may leave the half of a line
        os.truncate(path, len(whole))
        for line in whole.splitlines():
            self._take(json.loads(line))

    @classmethod
    @contextmanager
    def opened(cls, path: Path) -> Iterator[Journal]:
        """For one process at a time: ConfigError where another one is at it. The kernel frees it when the holder dies."""
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError("is being run by another process", file=path, mend="wait for its end") from None
            yield cls(path, handle)
        finally:
            os.close(handle)

    def begun(self, run: str, knobs: Settings) -> None:
        self._append({"kind": "begun", "run": run, "knobs": knobs})

    def figures(self, run: str, figures: dict[str, float], seconds: float) -> None:
        """What the trial's next rung gave; seconds: of the search so far."""
        self._append({"kind": "figures", "run": run, "figures": figures, "seconds": seconds})

    def stop(self, run: str, why: str) -> None:
        self._append({"kind": "stop", "run": run, "why": why})

    def _append(self, record: dict[str, Any]) -> None:
        os.write(self._handle, json.dumps(record).encode() + b"\n")
        os.fsync(self._handle)
        self._take(record)

    def _take(self, record: dict[str, Any]) -> None:
        run = record["run"]
        match record["kind"]:
            case "begun":
                self.trials.setdefault(run, Trial(run, record["knobs"]))
            case "figures":
                self.reached.append((run, len(self.trials[run].figures)))
                self.trials[run].figures.append(record["figures"])
                self.seconds = record["seconds"]
            case "stop":
                self.trials[run].stopped = record["why"]
