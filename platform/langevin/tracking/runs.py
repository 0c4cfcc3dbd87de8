"""The one way in which a training or an evaluation reports to MLflow, and the way back: what a run reported."""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, get_args

import numpy as np

from langevin.errors import ConfigError
from langevin.tracking.delivery import Deliverer
from langevin.tracking.remote import Target, named_runs
from langevin.tracking.spool import Spool
from langevin.tracking.store import client as client_of
from langevin.tracking.store import reachable, shown

_LOG = logging.getLogger(__name__)

Status = Literal["FINISHED", "FAILED", "KILLED"]

_PERIOD_S = 1.0  # points of a second travel in one call
_LONGEST_WAIT_S = 60.0
_EAGER_WAIT_S = 0.5  # while somebody waits in deliver()
_NONFINITE = ".nonfinite"
_KEY_LENGTH = 250 - len(_NONFINITE)
_QUOTES = re.compile(r"['\"`\\\x00-\x1f]")


class Tracker:
    """Reports a run. Every call appends to the run's spool and returns; a thread delivers, MLflow up or down.

    uri: an MLflow store; experiment, name: together the run's identity, without quotation marks; folder: the run's own
    folder on durable storage, the spool lies in ``folder/spool``; artifact_root: of a new experiment, where its default
    will not do. Any later process that opens the same folder and name delivers what is still there.

    A point that is not finite is reported as ``KEY.nonfinite = 1`` at its step: a SQL store cannot hold infinities. A
    step that MLflow has is not logged again; a parameter keeps its first value. Failures of storage are logged, never
    raised.
    """

    def __init__(self, uri: str, experiment: str, name: str, folder: Path, *, artifact_root: str | None = None) -> None:
        self._spool = Spool(Path(folder) / "spool", _owner(experiment, name))
        self._deliverer = Deliverer(self._spool, Target(uri, experiment, name, artifact_root))
        self._uri, self._name = uri, name
        self._closed: bool | None = None
        self._stopping = False
        self._wake = threading.Event()
        self._passed = threading.Condition()
        self._append("status", status="RUNNING")
        self._thread = threading.Thread(target=self._work, name=f"tracking {name}", daemon=True)
        self._thread.start()

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run; None until MLflow was reached."""
        return self._deliverer.run_id

    def params(self, values: Mapping[str, Any]) -> None:
        """What the run was asked to do. Values become text; the first value of a key stays."""
        self._append("params", values={_key(key): str(value) for key, value in values.items()})

    def tags(self, values: Mapping[str, Any]) -> None:
        """What the run is. Values become text; the last value of a key stays."""
        self._append("tags", values={_key(key): str(value) for key, value in values.items()})

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """One point a key. step: in images; values: anything that ``float`` takes."""
        self._append("metrics", step=int(step), values=_storable(values))

    def image(self, key: str, step: int, pixels: np.ndarray) -> None:
        """One picture at a step (in images). pixels: (H, W) or (H, W, C) uint8 with C of 1, 3 or 4; else ValueError."""
        if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (1, 3, 4))):
            raise ValueError(f"pixels must be (H, W) or (H, W, C) uint8, not {pixels.shape} {pixels.dtype}")
        key = re.sub(r"[^a-zA-Z0-9_\-./ ]", "_", key)
        self._append("image", lambda: self._spool.keep_pixels(pixels), key=key, step=int(step))

    def artifact(self, path: Path | str, under: str = "") -> None:
        """A file or a folder, copied now: for manifests and pages. Weights stay in storage, named by a tag."""
        self._append("artifact", lambda: self._spool.keep_file(Path(path).resolve()), under=under)

    def text(self, text: str, name: str) -> None:
        """A text as an artifact. name: its file name, folders included ("report/summary.txt")."""
        place = Path(name)
        under = "" if place.parent == Path() else place.parent.as_posix()
        self._append("artifact", lambda: self._spool.keep_text(text, place.name), under=under)

    def dataset(self, name: str, digest: str, source: str, context: str) -> None:
        """What the run read. digest: 36 characters of it count; source: a path or URI; context: "training", ...

        MLflow keeps one context a name and digest: splits have names of their own ("digits/train", "digits/test").
        """
        self._append("dataset", name=name, digest=digest, source=str(source), context=context)

    def model(
        self, sha256: str, images: int, source: str, metrics: Mapping[str, float], dataset: tuple[str, str]
    ) -> None:
        """A kept checkpoint as a LoggedModel of the run, with figures of its own: MLflow's UI ranks them by these.

        sha256: of its weights, by which it is known again; images: seen in training, the figures' step; source: where it
        lies, a path or URI; metrics: finite, such as the run has at that step; dataset: (name, digest) they are measured on.
        """
        finite = {_key(key): float(value) for key, value in metrics.items() if math.isfinite(value)}
        self._append("model", name=f"{self._name}-{images}", sha256=sha256, images=int(images), source=str(source),
                     metrics=finite, dataset=list(dataset))  # fmt: skip

    def parent(self, name: str) -> None:
        """The run of this name, in the same experiment, above this one: MLflow's UI shows one below the other, one level
        deep. It is made where there is none yet; the last parent stays.
        """
        self._append("parent", name=_owner("parent", name)["name"])

    def deliver(self, timeout_s: float) -> bool:
        """Tries to hand over now all that was reported; whether it is there."""
        deadline = time.monotonic() + timeout_s
        with self._passed:
            while not self._is_empty():
                remaining = deadline - time.monotonic()
                if remaining <= 0 or not self._thread.is_alive():
                    return False
                self._wake.set()
                self._passed.wait_for(self._is_empty, min(remaining, _EAGER_WAIT_S))
        return True

    def _is_empty(self) -> bool:
        return self._deliverer.delivered >= self._spool.end()

    def close(self, status: Status = "FINISHED", timeout_s: float = 20) -> bool:
        """Ends the run and hands over what is left; whether MLflow has it all. What it has not stays in the folder."""
        if status not in get_args(Status):
            raise ValueError(f"a run ends as one of {', '.join(get_args(Status))}, not as {status!r}")
        if self._closed is None:
            self._append("status", status=status)
            self._closed = self.deliver(timeout_s)
            self._stopping = True
            self._wake.set()
            if self._closed:
                self._thread.join()
                self._spool.close()
            else:
                _LOG.warning(
                    "MLflow at %s has not everything: the rest waits in %s", shown(self._uri), self._spool.folder
                )
        return self._closed

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close("FINISHED" if kind is None else "FAILED" if issubclass(kind, Exception) else "KILLED")

    def _append(self, kind: str, keep: Callable[[], str] | None = None, **fields: Any) -> None:
        try:
            payload = {"file": keep()} if keep else {}
            self._spool.append({"t": time.time_ns() // 1_000_000, "kind": kind, **fields, **payload})
        except OSError as error:
            _LOG.warning("tracking lost a record of kind %r: %s", kind, error)

    def _work(self) -> None:
        failures = 0
        while not self._stopping:
            try:
                self._deliverer.drain()
                if failures:
                    _LOG.warning("MLflow at %s is back", shown(self._uri))
                failures = 0
            except Exception as error:  # whatever MLflow or the network raises: training goes on, the points wait
                if not failures:
                    reason = shown(" ".join(str(error).split())[:200])
                    _LOG.warning("MLflow at %s: %s; points wait in %s", shown(self._uri), reason, self._spool.folder)
                failures += 1
            with self._passed:
                self._passed.notify_all()
            self._wake.wait(min(_PERIOD_S * 2**failures, _LONGEST_WAIT_S))
            self._wake.clear()


def leave(experiment: str, name: str, folder: Path, key: str, points: Mapping[int, float]) -> int:
    """Adds to a run's journal the points of a metric that it lacks, (step in images) -> value; says how many.

    For a process that does not report the run: the Tracker of the one that does delivers them, or the next that is opened.
    """
    spool = Spool(Path(folder) / "spool", _owner(experiment, name))
    try:
        there: set[int] = set()
        offset, names = 0, {_key(key), _key(key) + _NONFINITE}
        while entries := spool.read(offset):
            offset = entries[-1].end
            records = [entry.record for entry in entries if entry.record and entry.record["kind"] == "metrics"]
            there |= {record["step"] for record in records if names & record["values"].keys()}
        missing = sorted(points.keys() - there)
        for step in missing:
            values = _storable({key: points[step]})
            spool.append({"t": time.time_ns() // 1_000_000, "kind": "metrics", "step": int(step), "values": values})
    finally:
        spool.close()
    return len(missing)


def find_run(uri: str, experiment: str, name: str) -> str | None:
    """The id of the run of this name; None where there is none. Raises TrackingError where MLflow cannot be reached."""
    with reachable(uri):
        client = client_of(uri)
        found = client.get_experiment_by_name(experiment)
        runs = named_runs(client, found.experiment_id, name) if found else []
        return next((run.info.run_id for run in runs if run.info.lifecycle_stage == "active"), None)


def history(uri: str, run_id: str, key: str) -> list[tuple[int, float]]:
    """The points of a metric as (step in images, value), by step. Raises TrackingError where MLflow has no such run."""
    with reachable(uri):
        points = client_of(uri).get_metric_history(run_id, key)
        return sorted((point.step, point.value) for point in points)


def tags_of(uri: str, run_id: str) -> dict[str, str]:
    """What a run says that it is. Raises TrackingError where MLflow has no such run."""
    with reachable(uri):
        return dict(client_of(uri).get_run(run_id).data.tags)


def _owner(experiment: str, name: str) -> dict[str, str]:
    for field, value in (("experiment", experiment), ("run name", name)):
        if not value or len(value) > 250 or _QUOTES.search(value):
            mend = "use 1 to 250 characters without quotation marks, backslashes and line breaks"
            raise ConfigError("cannot name anything in MLflow", field=field, value=value, mend=mend)
    return {"experiment": experiment, "name": name}


def _storable(values: Mapping[str, float]) -> dict[str, float]:
    """The values as a SQL store can hold them."""
    numbers = {_key(key): float(value) for key, value in values.items()}
    finite = {key: value for key, value in numbers.items() if math.isfinite(value)}
    return finite | {key + _NONFINITE: 1.0 for key in numbers.keys() - finite.keys()}


def _key(key: str) -> str:
    """A name that MLflow takes: letters, digits and ``/ _ - . :``, no empty or dotted folders."""
    parts = re.sub(r"[^/\w.\- :]", "_", str(key)).split("/")
    return "/".join(part for part in parts if part.strip("."))[:_KEY_LENGTH] or "_"
