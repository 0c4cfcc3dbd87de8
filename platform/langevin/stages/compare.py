"""Several recipes side by side: what each reaches, at what cost in network calls and in training."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langevin.config.load import load_recipe
from langevin.config.recipe import Recipe
from langevin.config.trained import part_names
from langevin.errors import ConfigError
from langevin.evaluation.intervals import Figure
from langevin.evaluation.suite import Evaluation
from langevin.stages.outputs import Outputs, read_json

FIGURES = {
    "fid": "FID",
    "fid_infinity": "FID, n to infinity",
    "kid": "KID",
    "recognised": "recognised",
    "nll": "NLL, bits/dim",
}


def compare(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """A row a recipe: its sampler, figures with intervals, network calls a sample, seconds of training.

    ConfigError where two were not measured alike: by the same extractor on the same images, with as many samples of the
    same seed. How they are sampled may differ, and is a column.
    """
    return _compared(list(map(load_recipe, paths)))


def beside(recipe: Recipe, path: Path) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """The recipe's row and those of the ones that its report names, and the names of those not evaluated yet.

    path: of the recipe, in whose folder the others lie.
    """
    others = [load_recipe(path.parent / f"{name}.yaml") for name in recipe.report.beside]
    evaluated = {other.name: Outputs.of(other).evaluation.is_file() for other in others}
    rows = _compared([recipe, *(other for other in others if evaluated[other.name])])
    return rows, tuple(name for name, done in evaluated.items() if not done)


def _compared(recipes: Sequence[Recipe]) -> list[dict[str, Any]]:
    found = [(recipe, _evaluation(recipe)) for recipe in recipes]
    (first, alike), *others = found
    for recipe, one in others:
        differing = {name: pair for name, pair in alike.spec.differences(one.spec).items() if "sampling" not in name}
        if differing:
            name, (ours, theirs) = next(iter(differing.items()))
            raise ConfigError(
                f"was measured otherwise than {first.name}: {name} is {theirs!r} and not {ours!r}", field="evaluate",
                value=recipe.name, mend="give both one evaluate section and evaluate again",
            )  # fmt: skip
    return [_row(recipe, evaluation) for recipe, evaluation in found]


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a table that terminals and web pages show alike."""
    columns = ("recipe", "sampled by", "calls", *FIGURES.values(), "training, s")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for row in rows:
        figures = " | ".join(_figure(name, row.get(name)) for name in FIGURES)
        steps = "" if row["steps"] is None else f", {row['steps']}"
        lines.append(
            f"| {row['recipe']} | {row['sampler']}{steps} | {row['network_calls']} | {figures} | {row['seconds']:.0f} |"
        )
    return "\n".join(lines)


def _evaluation(recipe: Recipe) -> Evaluation:
    return Evaluation.from_json(read_json(Outputs.of(recipe).evaluation, "evaluate")["evaluation"])


def _row(recipe: Recipe, found: Evaluation) -> dict[str, Any]:
    figures = {name: found.figures[name] for name in FIGURES if name in found.figures}
    plain = {name: {"value": one.value, "low": one.low, "high": one.high} for name, one in figures.items()}
    sampling = found.spec.sampling
    return {
        "recipe": recipe.name,
        "method": recipe.model.method,
        "sampler": sampling["sampler"],
        "steps": sampling.get("steps"),
        "network_calls": found.network_calls,
        "seconds": training_seconds(recipe),
        **plain,
    }


def training_seconds(recipe: Recipe) -> float:
    """Of the training loop; of a cascade, those of all its models."""
    return sum(seconds_of(Outputs.named(name).history) for name in part_names(recipe) or (recipe.name,))


def seconds_of(history: Path) -> float:
    """Of a training loop, from the rate between the history's rows: what a stopped run waited for is not in it."""
    seconds, before = 0.0, 0
    with history.open(newline="") as file:
        for row in csv.DictReader(file):
            if rate := row["images_per_second"]:
                seconds += (int(row["images"]) - before) / float(rate)
                before = int(row["images"])
    return seconds


def _figure(name: str, found: dict[str, float] | None) -> str:
    if found is None:
        return "-"
    if name == "recognised":
        return f"{found['value']:.1%}"
    one = Figure(found["value"], found["low"], found["high"], 0)
    return f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"
