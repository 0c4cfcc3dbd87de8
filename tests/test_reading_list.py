"""A newcomer who follows DDPM training reads seven files, under 700 lines together."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "platform" / "langevin"
READING_LIST = [
    ROOT / "jobs" / "train.py",
    PACKAGE / "methods" / "ddpm.py",
    PACKAGE / "methods" / "gaussian.py",
    PACKAGE / "diffusion" / "objectives.py",
    PACKAGE / "diffusion" / "denoiser.py",
    PACKAGE / "diffusion" / "schedules.py",
    PACKAGE / "training" / "loop.py",
]


def test_the_reading_list_is_under_700_lines() -> None:
    assert sum(len(path.read_text().splitlines()) for path in READING_LIST) < 700


def test_the_readme_names_them_in_this_order() -> None:
    _, said = (ROOT / "README.md").read_text().split("Reading list")
    places = [said.find(str(path.relative_to(path.parents[1]))) for path in READING_LIST]
    assert -1 not in places
    assert places == sorted(places)


def test_the_first_file_names_the_others() -> None:
    said = ast.get_docstring(ast.parse(READING_LIST[0].read_text())) or ""
    assert [path.name for path in READING_LIST[1:] if path.name not in said] == []
