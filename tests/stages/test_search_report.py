"""The page of a search: of trials and settings as `langevin tune` leaves them, and of a model that was really trained."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from e2e.recipes import write_recipe

from langevin.cli import main

from .test_sweep import SMALL, run

SEARCH: dict[str, Any] = {
    "name": "search",
    "recipe": "small.yaml",
    "training": {"model.prediction": ["noise", "velocity"], "train.lr": [2e-3, 1e-3]},
    "sampling": {"steps": [2, 4], "guidance": [1.0, 1.5]},
    "scheduler": "halving",
    "reduction": 2,
    "rungs": [32],
    "objectives": ["fid", "network_calls"],
}
BEST = {"model.prediction": "velocity", "train.lr": 2e-3}
FIDS = {
    ("noise", 2e-3): (30.0,),
    ("noise", 1e-3): (31.0,),
    ("velocity", 2e-3): (10.0, 8.0),
    ("velocity", 1e-3): (12.0, 9.0),
}


def setting(
    run: str, steps: int, guidance: float, n: int, fid: float, calls: float, margin: float | None
) -> dict[str, Any]:
    return {"run": run, "knobs": BEST, "sampling": {"steps": steps, "guidance": guidance}, "n": n,
            "figures": {"fid": fid, "network_calls": calls},
            "interval": None if margin is None else [fid - margin, fid + margin]}  # fmt: skip


def result(checkpoint: dict[str, Any], recipe: str = "small") -> dict[str, Any]:
    """As stages/found.py writes it: four trainings, of which two went on and one is the best at two settings."""
    trials = [
        {"run": f"{recipe}-{number:04}" if fids != (10.0, 8.0) else f"{recipe}-aaaa",
         "knobs": {"model.prediction": prediction, "train.lr": rate}, "images": 64 if len(fids) > 1 else 32,
         "state": "complete" if len(fids) > 1 else "halving",
         "figures": [{"images": images, "fid": fid, "network_calls": 3.0} for images, fid in zip((32, 64), fids, strict=False)]}
        for number, ((prediction, rate), fids) in enumerate(FIDS.items())
    ]  # fmt: skip
    best = f"{recipe}-aaaa"
    cheap, good = setting(best, 2, 1.0, 128, 8.5, 2.0, 0.5), setting(best, 4, 1.0, 128, 7.0, 4.0, 0.4)
    worse = [setting(best, 2, 1.5, 64, 9.5, 4.0, None), setting(best, 4, 1.5, 64, 9.0, 8.0, None)]
    return {
        "search": "search", "recipe": recipe, "objectives": ["fid", "network_calls"], "rungs": [32, 64], "trials": trials,
        "best": good | checkpoint, "front": [cheap, good], "sampling": [good, cheap, *worse],
        "images": {"trained": 192, "of_all_trials_whole": 256, "share": 0.75},
        "drawn": {"images": 384, "of_all_settings_whole": 512}, "seconds": 61.0,
    }  # fmt: skip


@pytest.fixture
def searched(home: Path) -> Path:
    """The file of a search that came to its end without a figure, and without a data set."""
    write_recipe(home / "small.yaml", **SMALL)
    (home / "out/search").mkdir(parents=True)
    nothing = {"best": None, "front": [], "sampling": [], "drawn": {"images": 0, "of_all_settings_whole": 0}}
    (home / "out/search/search.json").write_text(json.dumps(result({}) | nothing))
    (home / "search.yaml").write_text(json.dumps(SEARCH))
    return home / "search.yaml"


def page_of(path: Path) -> str:
    assert run("report", path) == 0
    return (path.parent / "out/search/report/index.html").read_text()


def test_what_a_search_does_not_have_is_left_out(searched: Path) -> None:
    page = page_of(searched)
    assert re.findall(r"<h2>(.*?)</h2>", page) == ["Best setting", "Trainings", "Knobs that matter", "Lineage"]
    assert "No training came to a figure." in page
    place = searched.parent / "out/search/search.json"
    said = json.loads(place.read_text())
    for row in said["trials"]:  # all diverged at once
        row["figures"] = [{"images": 0, "fid": None, "network_calls": None}]
    place.write_text(json.dumps(said))
    page = page_of(searched)
    assert re.findall(r"<h2>(.*?)</h2>", page) == ["Best setting", "Trainings", "Lineage"]
    assert re.findall(r"<h3>(.*?)</h3>", page) == []


def test_the_page_of_a_population(searched: Path) -> None:
    """A copy's first figures are of a later rung: importance is of those that began at the beginning."""
    knobs = {"train.lr": [2e-3, 1e-3], "train.ema_decay": [0.9, 0.99]}
    searched.write_text(json.dumps(SEARCH | {"training": knobs, "scheduler": "population"}))
    place = searched.parent / "out/search/search.json"
    said = json.loads(place.read_text())
    for row, decay in zip(said["trials"], (0.9, 0.99, 0.9, 0.99), strict=True):
        row["knobs"] = {"train.lr": row["knobs"]["train.lr"], "train.ema_decay": decay}
    figures = [{"images": 64, "fid": 1.0, "network_calls": 3.0}]
    copy = {"run": "small-copy", "knobs": said["trials"][2]["knobs"], "images": 64, "state": "complete",
            "copied_from": "small-aaaa", "copied_at": 32, "figures": figures}  # fmt: skip
    said["trials"] = [*said["trials"], copy]
    place.write_text(json.dumps(said))
    page = page_of(searched)
    assert "as a population whose worst go on from the states of its best" in page
    assert "of 4 trainings at 32 images" in page
    assert page.index(">copy<") < page.index(">aaaa<")  # as far, and better


def test_a_search_that_has_not_ended_or_is_another_by_now(
    searched: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    searched.write_text(json.dumps(SEARCH | {"training": {"train.lr": [1e-3, 2e-3]}}))
    assert run("report", searched) == 2
    assert "was left by another search than" in capsys.readouterr().err
    (searched.parent / "out/search/search.json").unlink()
    assert run("report", searched) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"search.json: is missing; run `langevin tune {searched}` to its end first")


def test_what_is_neither_is_refused_as_a_recipe(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text, said in (("[1", "is no YAML"), ("name: x", "field required")):
        (home / "x.yaml").write_text(text)
        with pytest.raises(SystemExit) as left:
            main(["report", str(home / "x.yaml")])
        assert left.value.code == 2
        assert said in capsys.readouterr().err
