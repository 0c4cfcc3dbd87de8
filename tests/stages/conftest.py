"""Evaluations with figures made by hand, in a home of their own with a real registry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from e2e.recipes import ELSEWHERE, write_recipe

from langevin.config.load import load_recipe
from langevin.config.recipe import Recipe
from langevin.evaluation.intervals import Figure
from langevin.evaluation.suite import Evaluation, MetricSpec

SPEC = MetricSpec(
    extractor="cnn-digits-64",
    extractor_sha256="ab" * 32,
    extractor_accuracy=0.99,
    reference_split="test",
    reference_n=389,
    dataset_digest="cd" * 16,
    generated_n=1250,
    seed=1,
    quantisation="levels",
    sampling={"sampler": "ddim", "steps": 25, "eta": 0.0, "guidance": 1.0},
)


def evaluation(fid: float, margin: float = 0.1, others: Mapping[str, float] | None = None, seed: int = 1) -> Evaluation:
    """An evaluation whose FID is fid +- margin."""
    figures = {"fid": Figure(fid, fid - margin, fid + margin, 1250), "fid_floor": Figure(1.0, 0.9, 1.1, 1237)}
    figures |= {name: Figure(value, value - 0.01, value + 0.01, 1250) for name, value in (others or {}).items()}
    return Evaluation(replace(SPEC, seed=seed), figures)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ELSEWHERE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANGEVIN_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def recipe_file(home: Path) -> Path:
    return write_recipe(home / "small.yaml")


@pytest.fixture
def recipe(recipe_file: Path) -> Recipe:
    return load_recipe(recipe_file)
