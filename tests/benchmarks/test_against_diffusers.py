"""The benchmark runs, at a size that says nothing about speed, and leaves every field filled in."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("against_diffusers.py")
FIGURES = {"fid", "fid_floor", "fid_ratio", "kid", "inception_score", "precision", "recall", "recognised", "nll"}


@pytest.mark.slow
def test_it_fills_in_every_field(tmp_path: Path) -> None:
    out, home = tmp_path / "result.json", tmp_path / "home"
    home.mkdir()
    sizes = ["--images", "256", "--samples", "64", "--slices", "2", "--steps", "1", "--seed", "3"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *sizes, "--out", str(out)],
        cwd=home, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list(home.iterdir()) == []  # everything else lay in a temporary folder
    found = json.loads(out.read_text())
    assert (found["seed"], found["samples"], found["network_calls"]) == (3, 64, 25)
    assert set(found["versions"]) == {"python", "langevin", "torch", "diffusers"}

    ours, same, budget, *tuned = found["rows"]
    assert ours["name"] == "langevin"
    assert (ours["training"]["images"], ours["learning_rate"]) == (256, 2e-3)
    assert (same["training"]["images"], same["learning_rate"]) == (256, 1e-4)
    affordable = ours["training"]["cpu_s"] * same["images_per_cpu_second"]
    assert budget["training"]["images"] == pytest.approx(affordable, abs=64)  # in whole batches
    assert [row["learning_rate"] for row in tuned] == [2e-3, 2e-3]
    assert tuned[0]["figures"]["nll"] == tuned[1]["figures"]["nll"]  # one network ...
    assert tuned[0]["figures"]["fid"] != tuned[1]["figures"]["fid"]  # ... sampled on two grids
    for row in found["rows"]:
        assert row["figures"].keys() >= FIGURES
        assert row["figures"]["fid"]["low"] <= row["figures"]["fid"]["value"] <= row["figures"]["fid"]["high"]
        assert row["figures"]["fid"]["n"] == 64
        assert row["figures"]["fid_floor"] == ours["figures"]["fid_floor"]  # one judge, one reference
        assert row["parameters"] == pytest.approx(ours["parameters"], rel=0.02)

    assert found["ratios"].keys() == {row["name"] for row in found["rows"][1:]}
    fid = same["figures"]["fid"]["value"] / ours["figures"]["fid"]["value"]
    assert found["ratios"][same["name"]]["fid"] == pytest.approx(fid)
    for clock in ("wall", "cpu"):
        assert len(found["speed"][clock]["ratios"]) == 2
        assert all(math.isfinite(rate) and rate > 0 for rate in found["speed"][clock]["ratios"])
    for row in found["rows"]:
        assert f"| {row['name']} |" in done.stdout
