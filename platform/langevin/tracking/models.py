"""MLflow's LoggedModels: one a kept checkpoint, weights by address, so that metrics hang on the model in the UI."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

_LOG = logging.getLogger(__name__)

CHECKPOINT_TAG, IMAGES_TAG = "langevin.checkpoint_sha256", "langevin.images"
METRICS_A_CALL = 1000  # MLflow's limit for log_batch
_VERSIONS_TAG, _EXTERNAL_TAG = "mlflow.modelVersions", "mlflow.model.isExternal"


class LoggedModels:
    """The LoggedModels of a store. They raise what MLflow raises."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    def ensure(self, name: str, run_id: str, tags: Mapping[str, str], source: str) -> str:
        """The id of the LoggedModel of a run's checkpoint, known by its sha256, made where there is none; it has these tags."""
        experiment_id = self._client.get_run(run_id).info.experiment_id
        query = f"source_run_id = '{run_id}' AND tags.`{CHECKPOINT_TAG}` = '{tags[CHECKPOINT_TAG]}'"
        found = self._client.search_logged_models([experiment_id], filter_string=query, max_results=1)
        everything = dict(tags) | {"langevin.source": source, _EXTERNAL_TAG: "true"}
        if found:
            if more := {key: value for key, value in everything.items() if found[0].tags.get(key) != value}:
                self._client.set_logged_model_tags(found[0].model_id, more)
            return found[0].model_id
        model = self._client.create_logged_model(experiment_id, name.replace(".", "-"), run_id, everything)
        self._client.finalize_logged_model(model.model_id, "READY")
        return model.model_id

    def link(self, model_id: str, name: str, version: int) -> None:
        """Shows a registered version on the LoggedModel's page, as MLflow's server does by itself."""
        versions = json.loads(self._client.get_logged_model(model_id).tags.get(_VERSIONS_TAG, "[]"))
        if not any(known["name"] == name and int(known["version"]) == version for known in versions):
            versions.append({"name": name, "version": version})
            self._client.set_logged_model_tags(model_id, {_VERSIONS_TAG: json.dumps(versions)})

    def log(self, model_id: str, metrics: Mapping[str, float], dataset: tuple[str, str] | None) -> None:
        """Logs metrics of a model at the images it has seen. dataset: (name, digest).

        MLflow adds such a point to the model's run as well. Where the run has it already, its time stamp is used again,
        so that the store sees one and the same point; a point with another value is not logged, the first one stays. All go
        in one call: a server that asks for a password hashes it at each.
        """
        from mlflow.entities import Metric

        model = self._client.get_logged_model(model_id)
        run_id, step = str(model.source_run_id), int(model.tags.get(IMAGES_TAG, 0))
        name, digest = dataset if dataset else (None, None)
        latest = {point.key: point for point in self._client.get_run(run_id).data.to_proto().metrics}
        points = []
        for key, value in metrics.items():
            known = latest.get(key)
            if known and known.step != step:
                history = self._client.get_metric_history(run_id, key)
                known = next((point for point in history if point.step == step), None)
            if known and known.value != value:
                _LOG.warning("%s is %r at step %d already, not %r: the first stays", key, known.value, step, value)
                continue
            now = known.timestamp if known else time.time_ns() // 1_000_000
            points.append(Metric(key, value, now, step, model_id, name, digest and digest[:36], run_id))
        for start in range(0, len(points), METRICS_A_CALL):
            self._client.log_batch(run_id, points[start : start + METRICS_A_CALL])
