"""MLflow's own pages, read in a headless Chromium: what a team looks for is on them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.recipes import ROOT
from mlflow import MlflowClient
from mlflow.entities import Run

from langevin.tracking.store import client

from .servers import alone, needs
from .way import IMAGES, Way, surroundings, walked

pytestmark = pytest.mark.cluster
SCREENSHOTS = ROOT / "infra/mlflow/screenshots.py"


@pytest.fixture(scope="module")
def driving() -> Any:
    """infra/mlflow/screenshots.py as a module."""
    needs({"chromium": "chromium", "chromedriver": "chromium-driver"}, {"selenium": "selenium"})
    spec = importlib.util.spec_from_file_location("screenshots", SCREENSHOTS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=["alone", "team"])
def way(
    request: pytest.FixtureRequest, driving: Any, ready: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Way]:
    """Two models in `langevin ui`'s SQLite store, and in a team's Postgres and S3."""
    if request.param == "team":
        yield request.getfixturevalue("team_way")
        return
    home = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("LANGEVIN_HOME", str(home))
        with alone(home) as store:
            yield walked(ready, home, store)


@pytest.fixture(scope="module")
def seen(
    way: Way, driving: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[MlflowClient, list[Run], Any, Path]]:
    """The store, its runs, and a browser that is let in."""
    with pytest.MonkeyPatch.context() as patch:
        surroundings(patch, way.home, way.store)
        mlflow = client(way.store.uri)
        experiment = mlflow.get_experiment_by_name(way.name)
        assert experiment is not None
        runs = mlflow.search_runs([experiment.experiment_id], f"params.`train.images` = '{IMAGES}'")
        access = way.store.variables
        folder = tmp_path_factory.mktemp("screens")
        user, password = access.get("MLFLOW_TRACKING_USERNAME"), access.get("MLFLOW_TRACKING_PASSWORD")
        with driving.browser(way.store.uri, user, password) as pages:
            yield mlflow, runs, pages, folder


Seen = tuple[MlflowClient, list[Run], Any, Path]


def test_runs_are_compared_by_fid_and_nll(seen: Seen) -> None:
    _, runs, pages, folder = seen
    shown = pages.compare(runs[0].info.experiment_id, [run.info.run_id for run in runs])
    pages.screenshot(folder / "compare.png")
    for name in ("test/fid", "test/nll"):
        assert [float(value) for value in shown[name]] == pytest.approx(
            [run.data.metrics[name] for run in runs], rel=1e-3
        )
    for run in runs:
        assert run.info.run_name in pages.text
    assert (folder / "compare.png").stat().st_size > 10_000


def test_contact_sheets_stand_side_by_side(seen: Seen) -> None:
    _, runs, pages, folder = seen
    drawn = pages.sheets(runs[0].info.experiment_id, len(runs))
    pages.screenshot(folder / "sheets.png")
    assert len(drawn) == len(runs)
    assert all(f"test~samples%2Bstep%2B{IMAGES}%2B" in address for address in drawn)  # one key, one step
    assert {address.split("run_uuid=")[1] for address in drawn} == {run.info.run_id for run in runs}


def test_the_registered_model_shows_its_aliases(way: Way, seen: Seen) -> None:
    mlflow, _, pages, folder = seen
    aliases = mlflow.get_registered_model(way.name).aliases
    text = pages.model(way.name, 2)
    pages.screenshot(folder / "model.png")
    assert "champion" in aliases
    for alias, version in aliases.items():
        block = text.split(f"Version {version}\n")[1].split("\nVersion ")[0]
        assert f"@ {alias}" in block
    assert "langevin.git_commit" in text
