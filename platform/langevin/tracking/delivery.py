"""Delivery of a journal to MLflow: every record once, in order, whatever was killed in between."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence

from langevin.tracking.models import METRICS_A_CALL
from langevin.tracking.remote import BATCHED, PayloadError, RemoteRun, Target
from langevin.tracking.spool import Entry, Position, Record, Spool

_LOG = logging.getLogger(__name__)


class Deliverer:
    """Empties a spool into the run of a target. For one thread; other processes may do the same on the same spool."""

    def __init__(self, spool: Spool, target: Target) -> None:
        self._spool, self._target = spool, target
        self._run: RemoteRun | None = None
        self._position: Position | None = None

    @property
    def run_id(self) -> str | None:
        known = self._run or self._position  # read once: the delivering thread may set it to None in between
        return known.run_id if known else None

    @property
    def delivered(self) -> int:
        """Bytes of the journal that MLflow has, as far as this process knows."""
        known = self._position
        return known.offset if known else 0

    def drain(self) -> None:
        """Delivers what the journal holds. Does nothing while another process is at it; raises what MLflow raises."""
        with self._spool.turn() as ours:
            if not ours:
                return
            try:
                self._drain()
            except Exception:
                self._run = None  # what it knew of the run may no longer hold: the next try asks again
                raise

    def _drain(self) -> None:
        position = self._spool.position()
        if position != self._position:
            self._run = None  # another process has delivered meanwhile
        if self._run is None:
            if position.run_id is not None and position.offset == self._spool.end():
                self._position = position
                return
            self._run = RemoteRun.open(self._target, started=_first_time(self._spool))
        if position.run_id != self._run.run_id or position.offset > self._spool.end():
            # a new run in a new store, or a journal that was put back from a copy: all of it is offered
            position = Position(self._run.run_id, 0)
        end, held_up = self._spool.end(), None
        while entries := [entry for entry in self._spool.read(position.offset) if entry.end <= end]:
            for group in groups(entries):
                records = [entry.record for entry in group if entry.record is not None]
                failure = self._send(self._run, records)
                held_up = failure or held_up
                position = Position(self._run.run_id, group[-1].end)
                self._spool.advance(position)
                self._position = position
                for record in records:
                    if "file" in record and failure is None:
                        self._spool.drop(record["file"])
        self._position = position
        if held_up is not None:
            raise held_up

    def _send(self, run: RemoteRun, records: list[Record]) -> Exception | None:
        """Sends a group. Returns what kept a file from its artifact storage: it is back at the end of the journal then."""
        try:
            run.send(records, self._spool.payload)
        except Exception as error:
            is_refusal = _is_refusal(error)
            if not (is_refusal or "file" in records[0]):
                raise
            run.refresh()  # raises where it is MLflow that is away
            if not is_refusal:
                self._spool.append(records[0])  # storage that is away for one image must not hold up the points
                return error
            if len(records) > 1:
                for record in records:
                    self._send(run, [record])
            else:
                reason = " ".join(str(error).split())[:500]
                _LOG.warning("%s: MLflow refused a record, kept in refused.jsonl: %s", self._spool.folder, reason)
                self._spool.refuse(records[0], reason)
        return None


def groups(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Neighbours that one call can carry, in order; a record that is no metric, param or tag stands by itself."""
    group: list[Entry] = []
    load = 0
    for entry in entries:
        record = entry.record or {}
        alone = record.get("kind") not in BATCHED
        size = len(record.get("values", ()))
        if group and (alone or load + size > METRICS_A_CALL):
            yield group
            group, load = [], 0
        group.append(entry)
        load += size
        if alone:
            yield group
            group, load = [], 0
    if group:
        yield group


def _first_time(spool: Spool) -> int:
    return next((entry.record["t"] for entry in spool.read(0) if entry.record), time.time_ns() // 1_000_000)


def _is_refusal(error: Exception) -> bool:
    """Whether the record is at fault, so that sending it again would fail again."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        return error.error_code in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")
    if isinstance(error, OSError):
        return False  # a broken connection; some of them are ValueErrors as well
    return isinstance(error, PayloadError | LookupError | AttributeError | TypeError | ValueError)  # a malformed record
