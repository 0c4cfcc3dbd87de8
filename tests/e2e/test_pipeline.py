"""`dvc repro` in a fresh copy of the project: everything once, nothing twice, and only what depends on a change."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from langevin.tracking.registry import Registry
from langevin.tracking.store import client

from .project import commit, copy_project, git
from .recipes import environment, write_recipe

NAME = "ddpm-digits"
STAGES = ["prepare", "extractor", "train", "evaluate", "promote", "generate", "report"]
OUTPUTS = [
    *("training.json", "history.csv", "evaluation.json", "metrics.json", "fid.csv", "promotion.json"),
    *("extractor", "generated/manifest.json", "report/index.html", "report/samples.png"),
]
RUNNING = re.compile(r"Running stage '(\w+)'")


class Project:
    """A copy of the project with the small recipe in place of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out = copy_project(folder), folder / "out" / NAME
        self.recipe()
        commit(folder)
        self.commit = git(folder, "rev-parse", "HEAD").strip()

    def recipe(self, **changes: Any) -> None:
        write_recipe(self.folder / f"pipelines/recipes/{NAME}.yaml", name=NAME, **changes)

    def run(self, *arguments: str) -> str:
        more = {"PYTHONPATH": str(self.folder / "platform"), "DVC_NO_ANALYTICS": "1"}
        done = subprocess.run(
            arguments, cwd=self.folder, env=environment(self.folder, **more),
            capture_output=True, text=True, timeout=580, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{arguments}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def repro(self) -> list[str]:
        """The stages that ran, in order."""
        return RUNNING.findall(self.run("dvc", "repro"))

    def read(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.out / name).read_text())
        return found


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("p"))


@pytest.fixture(scope="module")
def first(project: Project) -> list[str]:
    """The stages of the first `dvc repro`."""
    return project.repro()


@pytest.fixture(scope="module")
def second(project: Project, first: list[str]) -> list[str]:
    """The stages of a `dvc repro` of what has not changed."""
    return project.repro()


@pytest.fixture(scope="module")
def changed(project: Project, second: list[str]) -> list[str]:
    """The stages of a `dvc repro` after a change of how samples are drawn. Before it, all was committed."""
    commit(project.folder)
    project.recipe(sample__steps=6)
    return project.repro()


def test_the_first_run_makes_everything(project: Project, first: list[str]) -> None:
    assert sorted(first) == sorted(STAGES)
    assert [name for name in OUTPUTS if not (project.out / name).exists()] == []
    assert (project.folder / "out/data/digits/manifest.json").exists()


def test_a_second_run_does_nothing(second: list[str]) -> None:
    assert second == []


def test_generated_images_name_the_exact_version(project: Project, first: list[str]) -> None:
    manifest, promoted = project.read("generated/manifest.json"), project.read("promotion.json")
    assert manifest["request"]["model"] == promoted["model"] == f"models:/{NAME}/1"
    assert manifest["samples"] == 64
    assert manifest["request"]["checkpoint_sha256"] == project.read("training.json")["sha256"]


def test_the_champion_knows_where_it_comes_from(project: Project, first: list[str]) -> None:
    found = Registry(f"sqlite:///{project.folder}/mlflow/mlflow.db").resolve(f"models:/{NAME}@champion")
    trained = project.read("training.json")
    lineage = {name.removeprefix("langevin."): value for name, value in found.tags.items()}
    assert found.version == 1
    assert lineage["git_commit"] == project.commit
    assert lineage["dataset_digest"] == trained["dataset_digest"]
    assert lineage["recipe_hash"] == trained["recipe_hash"]
    assert lineage["run_name"] == trained["run"]
    assert lineage["checkpoint_sha256"] == trained["sha256"]
    assert lineage["images"] == "1024"
    assert lineage["run_id"] == found.run_id


def test_a_training_is_one_run(project: Project, first: list[str]) -> None:
    store = client(f"sqlite:///{project.folder}/mlflow/mlflow.db")
    experiment = store.get_experiment_by_name(NAME)
    assert experiment is not None
    (run,) = store.search_runs([experiment.experiment_id])
    assert run.info.run_name == project.read("training.json")["run"]
    assert run.info.status == "FINISHED"
    assert {"train/loss", "validation/loss", "test/fid", "test/nll"} <= run.data.metrics.keys()


def test_the_report_is_one_page_with_everything(project: Project, first: list[str]) -> None:
    page = (project.out / "report/index.html").read_text()
    assert f"models:/{NAME}/1" in page
    assert project.read("training.json")["sha256"] in page
    assert re.findall(r"(?:src|href)=\"(?!data:|#)[^\"]*\"", page) == []  # nothing that lies elsewhere


def test_the_summary_names_all_of_it(project: Project, first: list[str]) -> None:
    shown = project.run("langevin", "summary", f"pipelines/recipes/{NAME}.yaml")
    for part in ("FID, samples against test", f"models:/{NAME}/1 @champion", "1,024 images", "report/index.html"):
        assert part in shown


def test_dvc_shows_metrics_plots_and_stages(project: Project, first: list[str]) -> None:
    metrics = json.loads(project.run("dvc", "metrics", "show", "--json"))[""]["data"]
    shown = metrics[f"out/{NAME}/metrics.json"]["data"]
    assert shown["fid"]["low"] <= shown["fid"]["value"] <= shown["fid"]["high"]
    assert shown["fid"]["n"] == 128
    plots = json.loads(project.run("dvc", "plots", "show", "--json"))["data"]
    assert any(name.endswith("history.csv") for name in plots)
    assert any(name.endswith("fid.csv") for name in plots)
    graph = project.run("dvc", "dag", "--mermaid")
    assert [stage for stage in STAGES if stage not in graph] == []


def test_another_way_to_sample_does_not_train_again(project: Project, changed: list[str]) -> None:
    assert {"evaluate", "generate", "report"} <= set(changed)
    assert {"prepare", "extractor", "train"}.isdisjoint(changed)
    manifest = project.read("generated/manifest.json")
    assert manifest["request"]["sampling"]["steps"] == 6
    assert manifest["request"]["model"] == f"models:/{NAME}/1"  # the same checkpoint is no new version


def test_dvc_compares_the_metrics_with_those_of_the_commit(project: Project, changed: list[str]) -> None:
    found = json.loads(project.run("dvc", "metrics", "diff", "--json"))
    (difference,) = found.values()
    fid = difference["fid.value"]
    assert fid["old"] is not None
    assert fid["new"] == project.read("metrics.json")["fid"]["value"] != fid["old"]
