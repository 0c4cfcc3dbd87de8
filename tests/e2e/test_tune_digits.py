"""The search of this project against all of its trainings whole."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from .conftest import Homes
from .recipes import ROOT, langevin


def found(home: Path, name: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((home / f"out/{name}/search.json").read_text())
    return result


@pytest.mark.slow
def test_the_digits_search_finds_what_the_full_grid_has(new_home: Homes) -> None:
    """At no more than 40 % of its images: at least as good as the best of 18 whole trainings, within its interval."""
    home = new_home("d")
    recipe = ROOT / "pipelines/recipes/ddpm-digits.yaml"
    assert langevin("extractor", recipe, home=home).returncode == 0
    text = (ROOT / "pipelines/searches/ddpm-digits.yaml").read_text()
    text = re.sub(r"recipe: \S+", f"recipe: {recipe}", text)
    text = re.sub(r"budget: .*", "", text)  # of time: this machine may be busy
    (home / "part.yaml").write_text(text)
    whole = re.sub(r"(?m)^(rungs|reduction):.*$", "", text).replace("name: ddpm-digits-search", "name: grid")
    (home / "whole.yaml").write_text(re.sub(r"scheduler: \w+", "scheduler: none", whole))
    for name in ("part", "whole"):
        searched = langevin("tune", home / f"{name}.yaml", home=home, timeout_s=4 * 3600)
        assert searched.returncode == 0, searched.stderr
    ours, best = found(home, "ddpm-digits-search"), found(home, "grid")
    assert ours["images"]["share"] <= 0.4
    assert best["images"]["share"] == 1.0
    assert ours["best"]["figures"]["fid"] <= best["best"]["interval"][1]
