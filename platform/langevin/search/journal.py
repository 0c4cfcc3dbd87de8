"""What a search has found, line by line: the one thing that it goes on from after a kill. Only its driver writes it."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from langevin.errors import ConfigError
from langevin.search.population import Copy
from langevin.search.space import Settings


@dataclass
class Trial:
    """One training of the search. run: its name, which is its identity; figures: one table a rung that it has reached, of
    images and the objectives; stopped: why it went no further, "" where nothing stopped it; copy: from which other
    training's state it began, and so after which rung, None where it began at the beginning.
    """

    run: str
    knobs: Settings
    figures: list[dict[str, float]] = field(default_factory=list)
    stopped: str = ""
    copy: Copy | None = None

    @property
    def first(self) -> int:
        """The rung of its first figures."""
        return self.copy.rung + 1 if self.copy else 0

    @property
    def reached(self) -> int:
        """How many rungs lie behind it, those of what it is a copy of included."""
        return self.first + len(self.figures)


class Journal:
    """The trials in the order in which they were begun, ``reached``: (run, rung) in the order of the results, and of a
    population ``exchanged``: the rungs at which it was decided who goes on from whose state, with these copies.
    """

    def __init__(self, path: Path, handle: int) -> None:
        self._path, self._handle = path, handle
        self.trials: dict[str, Trial] = {}
        self.reached: list[tuple[str, int]] = []
        self.exchanged: dict[int, list[Copy]] = {}
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

    def exchange(self, rung: int, copies: Sequence[Copy]) -> None:
        """All that is decided at a rung, in one line: a kill leaves the whole of it or nothing."""
        self._append({"kind": "exchange", "rung": rung, "copies": [asdict(copy) for copy in copies]})

    @property
    def copies(self) -> dict[str, Copy]:
        """By their runs, begun or not."""
        return {copy.run: copy for copies in self.exchanged.values() for copy in copies}

    def _append(self, record: dict[str, Any]) -> None:
        os.write(self._handle, json.dumps(record).encode() + b"\n")
        os.fsync(self._handle)
        self._take(record)

    def _take(self, record: dict[str, Any]) -> None:
        match record:
            case {"kind": "begun", "run": run, "knobs": knobs}:
                self.trials.setdefault(run, Trial(run, knobs, copy=self.copies.get(run)))
            case {"kind": "figures", "run": run, "figures": figures, "seconds": seconds}:
                self.reached.append((run, self.trials[run].reached))
                self.trials[run].figures.append(figures)
                self.seconds = seconds
            case {"kind": "stop", "run": run, "why": why}:
                self.trials[run].stopped = why
            case {"kind": "exchange", "rung": rung, "copies": copies}:
                self.exchanged[rung] = [Copy(**copy) for copy in copies]
                for copy in self.exchanged[rung]:
                    replaced = self.trials[copy.replaces]
                    replaced.stopped = replaced.stopped or "replaced"
