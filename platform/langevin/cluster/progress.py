"""How far a training is: one small file in the run's folder, written by its first worker, read by whoever waits."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FILE = "progress.json"
EVERY_S = 0.5


def write_progress(folder: Path, values: dict[str, Any]) -> None:
    """values: images so far, loss, images_per_second."""
    unfinished = folder / f".{FILE}"
    unfinished.write_text(json.dumps(values))
    os.replace(unfinished, folder / FILE)


@contextmanager
def watched(folder: Path, tell: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Tells what the first worker writes, while the body runs."""
    folder.mkdir(parents=True, exist_ok=True)
    path, over = folder / FILE, threading.Event()
    before = path.stat().st_mtime_ns if path.exists() else 0  # here: the thread may start after the first words
    thread = threading.Thread(target=_watch, args=(path, before, tell, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _watch(path: Path, told: int, tell: Callable[[dict[str, Any]], None], over: threading.Event) -> None:
    ending = False
    while not ending:
        ending = over.wait(EVERY_S)  # once more after the end, for the last words
        if path.exists() and (written := path.stat().st_mtime_ns) != told:
            told = written
            tell(json.loads(path.read_text()))
