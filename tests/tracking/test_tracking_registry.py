"""The registry on a real SQLite store: idempotent, exact about what there is, linked to runs and LoggedModels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from langevin.errors import RegistryError, TrackingError
from langevin.tracking.lineage import Lineage
from langevin.tracking.models import LoggedModels
from langevin.tracking.registry import Registry
from langevin.tracking.runs import Tracker, history
from langevin.tracking.store import client

LINEAGE = Lineage("c" * 40, True, "d" * 36, "digits", "ddpm-digits.yaml", "e" * 64, "run-a", "r1", "a" * 64, 128)


@pytest.fixture
def run_id(uri: str, tmp_path: Path) -> str:
    with Tracker(uri, "digits", "run-a", tmp_path / "run") as tracker:
        tracker.metrics(128, {"fid": 2.5})
    assert tracker.run_id
    return tracker.run_id


def test_a_checkpoint_is_registered_once(
    uri: str, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    registry, tags = Registry(uri), LINEAGE.tags()
    other = tags | {"langevin.checkpoint_sha256": "b" * 64}
    assert registry.register("ddpm-digits", "/runs/a/ckpt-1", run_id, tags, "first") == 1
    assert registry.register("ddpm-digits", "/runs/a/ckpt-1", run_id, tags) == 1
    assert registry.register("ddpm-digits", "s3://bucket/ckpt-2", None, other) == 2
    assert registry.register("other", "/runs/a/ckpt-1", run_id, tags) == 1
    assert registry.names() == ["ddpm-digits", "other"]
    first, second = registry.versions("ddpm-digits")
    assert (first.version, first.source, first.run_id, first.description) == (1, "/runs/a/ckpt-1", run_id, "first")
    assert (second.version, second.source, second.run_id) == (2, "s3://bucket/ckpt-2", None)
    assert first.tags.items() >= tags.items()
    assert not (tmp_path / "mlflow.db").exists()  # MLflow's global store was not touched
    models = client(uri).search_logged_models([client(uri).get_run(run_id).info.experiment_id])
    assert [model.model_id for model in models] == [first.model_id]
    linked = json.loads(models[0].tags["mlflow.modelVersions"])
    assert linked == [{"name": "ddpm-digits", "version": 1}, {"name": "other", "version": 1}]


def test_addresses_are_resolved_to_exact_versions(uri: str, run_id: str) -> None:
    registry = Registry(uri)
    for sha256 in ("a" * 64, "b" * 64):
        tags = LINEAGE.tags() | {"langevin.checkpoint_sha256": sha256}
        registry.register("ddpm-digits", f"/runs/{sha256[0]}", run_id, tags)
    assert registry.alias("ddpm-digits", "champion") is None
    registry.set_alias("ddpm-digits", "champion", 2)
    registry.set_alias("ddpm-digits", "challenger", 2)
    registry.set_alias("ddpm-digits", "champion", 1)
    assert registry.alias("ddpm-digits", "champion") == 1
    found = registry.resolve("models:/ddpm-digits@champion")
    assert (found.version, found.source, found.aliases) == (1, "/runs/a", ("champion",))
    assert found.uri == "models:/ddpm-digits/1"
    assert registry.resolve("models:/ddpm-digits/2").aliases == ("challenger",)
    assert registry.resolve("models:/ddpm-digits/latest").version == 2
    registry.tag_version("ddpm-digits", 2, {"langevin.fid": "2.5"})
    assert registry.resolve("models:/ddpm-digits/2").tags["langevin.fid"] == "2.5"


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("models:/dppm-digits@champion", "model = 'dppm-digits': is not a registered model; did you mean ddpm-digits?"),
        ("models:/zzz/1", "model = 'zzz': is not a registered model; there is ddpm-digits"),
        (
            "models:/ddpm-digits@champ",
            "model = 'models:/ddpm-digits@champ': names no version: ddpm-digits has no alias 'champ'; "
            "its versions are 1 (@champion)",
        ),
        (
            "models:/ddpm-digits/7",
            "model = 'models:/ddpm-digits/7': names no version of this model; its versions are 1 (@champion)",
        ),
        (
            "ddpm-digits",
            "model = 'ddpm-digits': is not the address of a model; "
            "write models:/NAME@ALIAS, models:/NAME/VERSION or models:/NAME/latest",
        ),
        (
            "models:/ddpm-digits/1/x",
            "model = 'models:/ddpm-digits/1/x': is not the address of a model; "
            "write models:/NAME@ALIAS, models:/NAME/VERSION or models:/NAME/latest",
        ),
    ],
)
def test_an_address_of_nothing_says_what_there_is(uri: str, address: str, line: str) -> None:
    registry = Registry(uri)
    registry.register("ddpm-digits", "/runs/a", None, LINEAGE.tags())
    registry.set_alias("ddpm-digits", "champion", 1)
    with pytest.raises(RegistryError) as caught:
        registry.resolve(address)
    assert str(caught.value) == line
    assert caught.value.exit_code == 2


def test_mistakes_before_anything_is_registered(uri: str) -> None:
    registry = Registry(uri)
    with pytest.raises(RegistryError, match="nothing is registered yet: run langevin promote"):
        registry.resolve("models:/ddpm-digits@champion")
    with pytest.raises(RegistryError, match="cannot name a model"):
        registry.register("a/b", "/runs/a", None, LINEAGE.tags())
    with pytest.raises(RegistryError, match=r"langevin\.checkpoint_sha256: is missing"):
        registry.register("a", "/runs/a", None, {})
    assert registry.names() == []
    registry.register("a", "/runs/a", None, LINEAGE.tags())
    with pytest.raises(RegistryError, match="its versions are 1"):
        registry.set_alias("a", "champion", 2)
    with pytest.raises(TrackingError, match="did not answer"):
        Registry("sqlite:////dev/null/mlflow.db").names()


def test_metrics_hang_on_the_model_and_stay_single_in_the_run(
    uri: str, run_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry(uri)
    registry.register("ddpm-digits", "/runs/a", run_id, LINEAGE.tags())
    model_id = registry.resolve("models:/ddpm-digits/1").model_id
    assert model_id
    for _ in range(2):
        LoggedModels(client(uri)).log(model_id, {"fid": 2.5, "nll": 1.9}, ("digits", "d" * 36))
    LoggedModels(client(uri)).log(model_id, {"fid": 3.0}, None)
    assert "the first stays" in caplog.text
    metrics = client(uri).get_logged_model(model_id).metrics
    found = {(metric.key, metric.value, metric.step, metric.dataset_name) for metric in metrics or []}
    assert found == {("fid", 2.5, 128, "digits"), ("nll", 1.9, 128, "digits")}
    assert len(metrics or []) == 2
    assert history(uri, run_id, "fid") == [(128, 2.5)]
    assert history(uri, run_id, "nll") == [(128, 1.9)]
