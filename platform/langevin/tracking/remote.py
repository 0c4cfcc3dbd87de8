"""A run as MLflow has it. Nothing is logged from memory: it is asked what it has, and only what is missing goes out."""

from __future__ import annotations

import json
import logging
import re
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from langevin.errors import TrackingError
from langevin.tracking.models import CHECKPOINT_TAG, IMAGES_TAG, METRICS_A_CALL, LoggedModels
from langevin.tracking.spool import Record
from langevin.tracking.store import client as client_of
from langevin.tracking.store import ensure_experiment, user

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

_LOG = logging.getLogger(__name__)

RUN_TAG = "langevin.run"  # the run's name: its identity, through every restart
PARENT_TAG = "mlflow.parentRunId"
_USER_TAG = "mlflow.user"  # what its UI shows as "created by"
BATCHED = ("metrics", "params", "tags")  # kinds of records that travel together
_PAIRS_A_CALL = 100  # MLflow's limit for log_batch, of parameters and of tags
_PARAM_LENGTH, _TAG_LENGTH, _DIGEST_LENGTH = 6000, 8000, 36
_THUMBNAIL = (256, 256)
_IMAGE_STEM = re.compile(r"(?:images/)?(?P<stem>(?P<key>.+)\+step\+(?P<step>-?\d+)\+timestamp\+\d+\+[0-9a-f-]{36})")


class PayloadError(Exception):
    """An image of the spool that cannot be read back."""


@dataclass(frozen=True)
class Target:
    """The MLflow run that a journal belongs to: its store, its experiment, its name."""

    uri: str
    experiment: str
    name: str
    artifact_root: str | None = None


@dataclass
class RemoteRun:
    """A run as MLflow has it. steps: metric key -> the steps there; images: (key, step) -> the stem of its files."""

    client: MlflowClient
    run_id: str
    is_new: bool
    params: dict[str, str] = field(default_factory=dict)
    steps: dict[str, set[int]] = field(default_factory=dict)
    images: dict[tuple[str, int], str] | None = None

    @classmethod
    def open(cls, target: Target, started: int) -> RemoteRun:
        """The one run of this name, made where there is none. started: ms since 1970, the start of a new run."""
        client = client_of(target.uri)
        experiment_id = ensure_experiment(client, target.experiment, target.artifact_root)
        run, is_new = open_run(client, experiment_id, target.name, started)
        return cls(client, run.info.run_id, is_new, dict(run.data.params))

    def refresh(self) -> None:
        """Forgets what is known of the run and asks again. Raises TrackingError where somebody deleted it meanwhile."""
        run = self.client.get_run(self.run_id)
        if run.info.lifecycle_stage != "active":
            raise TrackingError(f"the MLflow run {self.run_id} was deleted")
        self.is_new, self.params, self.steps, self.images = False, dict(run.data.params), {}, None

    def send(self, records: Sequence[Record], payload: Path) -> None:
        """Logs a group of ``groups``: metrics, params and tags together, or one record of another kind."""
        for record in records:
            match record["kind"]:
                case "image":
                    self._send_image(record, payload)
                case "artifact":
                    self._send_artifact(record, payload)
                case "dataset":
                    self._send_dataset(record)
                case "model":
                    self._send_model(record)
                case "parent":
                    self._send_parent(record)
                case "status":
                    self._send_status(record)
        self._send_values([record for record in records if record["kind"] in BATCHED])

    def _send_values(self, records: list[Record]) -> None:
        from mlflow.entities import Metric, Param, RunTag

        fresh: dict[tuple[str, int], Metric] = {}
        params: dict[str, str] = {}
        tags: dict[str, str] = {}
        for record in records:
            for key, value in record["values"].items():
                if record["kind"] == "tags":
                    tags[key] = value[:_TAG_LENGTH]
                elif record["kind"] == "metrics":
                    if record["step"] not in self._steps_of(key):
                        fresh.setdefault((key, record["step"]), Metric(key, value, record["t"], record["step"]))
                elif (first := self.params.get(key, params.get(key))) is None:
                    params[key] = value[:_PARAM_LENGTH]
                elif first != value[:_PARAM_LENGTH]:
                    # MLflow raises on a changed parameter; the first value says what the run began with
                    _LOG.warning("parameter %s was %r and is now %r: MLflow keeps the first", key, first, value)
                    tags[f"langevin.param_changed.{key}"] = value[:_TAG_LENGTH]
        for chunk in _chunks(params.items(), _PAIRS_A_CALL):
            self.client.log_batch(self.run_id, params=[Param(key, value) for key, value in chunk])
            self.params.update(chunk)
        for chunk in _chunks(tags.items(), _PAIRS_A_CALL):
            self.client.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in chunk])
        for points in _chunks(fresh.items(), METRICS_A_CALL):
            self.client.log_batch(self.run_id, metrics=[metric for _, metric in points])
            for (key, step), _ in points:
                self._steps_of(key).add(step)

    def _steps_of(self, key: str) -> set[int]:
        if key not in self.steps:
            history = [] if self.is_new else self.client.get_metric_history(self.run_id, key)
            self.steps[key] = {point.step for point in history}
        return self.steps[key]

    def _send_image(self, record: Record, payload: Path) -> None:
        key, step = record["key"].replace("/", "~"), record["step"]  # as MLflow's UI expects the names
        # named by the record: a second upload after a kill overwrites the first instead of joining it
        name = uuid.uuid5(uuid.NAMESPACE_URL, f"{self.run_id}/{key}/{step}/{record['t']}")
        stem = f"{key}+step+{step}+timestamp+{record['t']}+{name}"
        if self._stems().get((key, step), stem) != stem:
            return  # reported before, by an earlier life of the run
        picture = _picture(payload / record["file"])
        with tempfile.TemporaryDirectory() as folder:
            full, small = Path(folder, f"{stem}.png"), Path(folder, f"{stem}+compressed.webp")
            picture.save(full)
            picture.thumbnail(_THUMBNAIL)
            picture.save(small)
            for file in (full, small):
                self.client.log_artifact(self.run_id, str(file), "images")
        self.client.set_tag(self.run_id, "mlflow.loggedImages", "True")
        self._stems()[key, step] = stem

    def _stems(self) -> dict[tuple[str, int], str]:
        if self.images is None:
            files = [] if self.is_new else self.client.list_artifacts(self.run_id, "images")
            found = [match for file in files if (match := _IMAGE_STEM.match(file.path))]
            self.images = {(match["key"], int(match["step"])): match["stem"] for match in found}
        return self.images

    def _send_artifact(self, record: Record, payload: Path) -> None:
        path, under = payload / record["file"], record["under"] or None
        if path.is_dir():
            place = "/".join(part for part in (under, path.name) if part)
            self.client.log_artifacts(self.run_id, str(path), place)
        elif path.exists():
            self.client.log_artifact(self.run_id, str(path), under)
        else:
            raise PayloadError(f"{path} is gone")

    def _send_dataset(self, record: Record) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source = record["source"]
        scheme = source.split("://")[0] if "://" in source else "local"
        dataset = Dataset(record["name"], record["digest"][:_DIGEST_LENGTH], scheme, json.dumps({"uri": source}))
        context = InputTag("mlflow.data.context", record["context"])
        self.client.log_inputs(self.run_id, [DatasetInput(dataset, tags=[context])])

    def _send_model(self, record: Record) -> None:
        tags = {CHECKPOINT_TAG: record["sha256"], IMAGES_TAG: str(record["images"])}
        models = LoggedModels(self.client)
        model_id = models.ensure(record["name"], self.run_id, tags, record["source"])
        models.log(model_id, record["metrics"], tuple(record["dataset"]))  # type: ignore[arg-type]
        for key in record["metrics"]:
            self._steps_of(key).add(record["images"])  # MLflow has added the point to the run as well

    def _send_parent(self, record: Record) -> None:
        experiment_id = self.client.get_run(self.run_id).info.experiment_id
        above, _ = open_run(self.client, experiment_id, record["name"], record["t"])
        self.client.set_tag(self.run_id, PARENT_TAG, above.info.run_id)

    def _send_status(self, record: Record) -> None:
        if record["status"] == "RUNNING":
            self.client.update_run(self.run_id, status="RUNNING")
        else:
            self.client.set_terminated(self.run_id, record["status"], end_time=record["t"])


def open_run(client: MlflowClient, experiment_id: str, name: str, started: int) -> tuple[Run, bool]:
    """The one run of this name, restored where it was deleted, made where there is none (then True)."""
    found = named_runs(client, experiment_id, name)
    if found:
        run = found[0]
        if run.info.lifecycle_stage == "deleted":
            client.restore_run(run.info.run_id)
        return run, False
    tags = {RUN_TAG: name, _USER_TAG: user()}
    made = client.create_run(experiment_id, start_time=started, tags=tags, run_name=name)
    first = named_runs(client, experiment_id, name)[0]
    if first.info.run_id == made.info.run_id:
        return made, True
    # another process, or a request that was sent twice, was faster: the earliest is the run
    client.delete_tag(made.info.run_id, RUN_TAG)
    client.delete_run(made.info.run_id)
    return first, False


def named_runs(client: MlflowClient, experiment_id: str, name: str) -> list[Run]:
    """Every run of this name, deleted ones included: active ones first, the earliest first."""
    from mlflow.entities import ViewType

    found = client.search_runs([experiment_id], f"tags.`{RUN_TAG}` = '{name}'", ViewType.ALL)
    return sorted(found, key=lambda run: (run.info.lifecycle_stage != "active", run.info.start_time, run.info.run_id))


def _chunks(pairs: Iterable[tuple[Any, Any]], size: int) -> Iterator[list[tuple[Any, Any]]]:
    pairs = list(pairs)
    for start in range(0, len(pairs), size):
        yield pairs[start : start + size]


def _picture(path: Path) -> Image.Image:
    try:
        pixels = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise PayloadError(f"{path}: {error}") from error
    return Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)
