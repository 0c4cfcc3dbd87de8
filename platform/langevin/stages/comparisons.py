"""The parts of a page that hold several models: those that a cascade is made of, and those that it is compared with."""

from __future__ import annotations

import json
from typing import Any

from langevin.config.trained import part_names
from langevin.reporting.page import Cell, Table
from langevin.stages.compare import FIGURES, beside, seconds_of
from langevin.stages.outputs import Outputs
from langevin.stages.subject import Part, Subject
from langevin.stages.summary import number

SHOWN = ("fid", "recognised", "nll")


def made_of(subject: Subject) -> Part | None:
    """A row a model of a cascade: each measured alone, by its own recipe."""
    names = part_names(subject.recipe)
    if not names:
        return None
    rows = [_stage(name, said) for name, said in zip(names, subject.said["parts"], strict=True)]
    missing = [name for name in names if not Outputs.named(name).metrics.is_file()]
    note = (
        "Each stage alone, given real images made smaller; the FID of one size is not to be set against another's, whose "
        f"extractor is its own.{_not_yet(missing)}"
    )
    columns = ("model", "pixels", *(FIGURES[name] for name in SHOWN), "training, s")
    return Part("What it is made of", "", {}, Table(columns, tuple(rows), note))


def compared(subject: Subject) -> Part | None:
    """A row a recipe that report.beside names, under the model's own."""
    if not subject.recipe.report.beside:
        return None
    rows, missing = beside(subject.recipe, subject.path)
    cells = [(row["recipe"], *_figures(row), row["network_calls"], _seconds(row["seconds"])) for row in rows]
    columns = ("recipe", *(FIGURES[name] for name in SHOWN), "network calls", "training, s")
    note = f"All measured alike. Network calls: of one sample, through networks of any size.{_not_yet(missing)}"
    return Part("Side by side", "", {}, Table(columns, tuple(cells), note))


def _stage(name: str, said: dict[str, Any]) -> tuple[Cell, ...]:
    outputs, size = Outputs.named(name), said["data"]["shape"][-1]
    measured = json.loads(outputs.metrics.read_text()) if outputs.metrics.is_file() else {}
    enlarges = f"{said['upsampling']['lower']} to {size}" if "upsampling" in said else str(size)
    seconds = _seconds(seconds_of(outputs.history)) if outputs.history.is_file() else None
    return (name, enlarges, *_figures(measured), seconds)


def _figures(found: dict[str, Any]) -> tuple[Cell, ...]:
    return tuple(_figure(name, found[name]) if name in found else None for name in SHOWN)


def _figure(name: str, found: dict[str, float]) -> str:
    value, margin = found["value"], (found["high"] - found["low"]) / 2
    return f"{value:.1%} ± {margin:.1%}" if name == "recognised" else f"{number(value)} ± {margin:.2g}"


def _seconds(seconds: float) -> str:
    return f"{seconds:,.0f}"


def _not_yet(names: list[str] | tuple[str, ...]) -> str:
    return f" Not evaluated yet: {', '.join(names)}." if names else ""
