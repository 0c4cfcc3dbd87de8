"""The parts of a search's page about its trainings: which were tried, how far they came, and which of their knobs matter."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from langevin.config.load import restore
from langevin.config.paths import within_home
from langevin.data.reader import read_split
from langevin.errors import DataError
from langevin.protocols import Batch, Samples, condition_of
from langevin.reporting.bars import bars
from langevin.reporting.figures import curve
from langevin.reporting.page import Cell, Picture, Table
from langevin.search.importance import importance
from langevin.stages.pictures import WAYS, from_noise
from langevin.stages.searched import LABELS, Found
from langevin.stages.subject import Part, various
from langevin.stages.summary import number, sampled_by, written

Row = dict[str, Any]
NAMED = 4  # curves that stand out: the best trainings


def best(found: Found) -> Part | None:
    """The best setting, knob by knob, and the way of some of its samples from noise."""
    chosen, search = found.result["best"], found.loaded.search
    if chosen is None:
        return Part("Best setting", "No training came to a figure.")
    tried: dict[str, Any] = {**search.knobs, **search.sampling}
    settings = {**chosen["knobs"], **chosen["sampling"]}
    rows = [(name, written(value), _tried(tried[name]), "training" if name in chosen["knobs"] else "sampling")
            for name, value in settings.items()]  # fmt: skip
    note = f"out/{search.name}/best.yaml is its recipe, whose training is there already."
    picture = _way(found)
    return Part("Best setting", "", {"trajectory": picture} if picture else {},
                Table(("knob", "best", "tried", "moves"), tuple(rows), note))  # fmt: skip


def trials(found: Found) -> Part:
    """A curve and a row a training, the one that came furthest and is best first."""
    result, first = found.result, found.first
    rows = sorted(result["trials"], key=lambda row: (-row["images"], _last(row, first)))
    knobs = list(found.loaded.search.training)
    names = result["objectives"]
    cells = [
        (found.short(row["run"]), *(written(row["knobs"][name]) for name in knobs), f"{int(row['images']):,}",
         *(_figure(row, name) for name in names), row["state"])
        for row in rows
    ]  # fmt: skip
    heads = ("training", *map(short, knobs), "images", *(LABELS[name] for name in names), "state")
    share, images = result["images"]["share"], result["images"]
    cost = (
        f"{images['trained']:,} images were trained, {share:.1%} of what all of them whole would take." if share else ""
    )
    rungs = ", ".join(f"{rung:,}" for rung in result["rungs"])
    note = (f"The runs in MLflow are {result['recipe']}-TRAINING. Figures at the last of the rungs that a training reached "
            f"({rungs} images), of fewer samples than the best setting's above.")  # fmt: skip
    return Part("Trainings", cost, _curves(found, rows), Table(heads, tuple(cells), note))


def knobs_that_matter(found: Found) -> Part | None:
    """Which share of the figures' variance each training knob explains, and what its values gave."""
    first, search = found.first, found.loaded.search
    begun = [
        row for row in found.result["trials"] if row["figures"] and not row.get("copied_from")
    ]  # a copy begins later
    values = [_at(row, first, 0) for row in begun]
    shares = importance(search.knobs, [row["knobs"] for row in begun], values)
    if not shares:
        return None
    rung = found.result["rungs"][0]
    label = LABELS[first]
    picture = Picture.drawn(
        "Importance of the training knobs",
        "A bar for each training knob: the share of the variance that it explains: "
        + ", ".join(f"{name} {share:.0%}" for name, share in shares.items()),
        lambda theme: bars({short(name): share for name, share in shares.items()}, "", theme),
        f"Functional ANOVA over the {label} of {sum(map(math.isfinite, values))} trainings at {rung:,} images, which all of "
        "them reached: what each knob explains alone, of what all of them explain alone.",
    )
    rows = [(f"{short(name)} = {written(value)}", len(of), min(of), sum(of) / len(of))
            for name in shares for value, of in _by_value(begun, values, name, search.knobs[name])]  # fmt: skip
    table = (
        Table(("value", "trainings", f"best {label}", f"mean {label}"), tuple(rows), f"At {rung:,} images.")
        if rows
        else None
    )
    return Part("Knobs that matter", "", {"importance": picture}, table)


def short(knob: str) -> str:
    """A knob's name without its section's."""
    return knob.removeprefix("model.").removeprefix("train.")


def _way(found: Found) -> Picture | None:
    loaded, chosen, checkpoint = found.loaded, found.result["best"], found.best_checkpoint
    if checkpoint is None:
        return None
    try:
        few = various(read_split(within_home(loaded.base.data.root), "test"), WAYS)
    except DataError:
        return None
    recipe = loaded.recipe(chosen["knobs"])
    sample = next((one for knobs, one, _ in loaded.samples(recipe) if knobs == chosen["sampling"]), recipe.sample)
    model = restore(checkpoint, sample)
    if not isinstance(model, Samples):
        return None
    asked = "one sample of each class" if _of_each_class(few) else "asked for as test images are"
    return from_noise(model, condition_of(model, few), len(few), f"Sampled by {sampled_by(sample.plain())}; {asked}.")


def _of_each_class(few: Batch) -> bool:
    return few.captions is None and few.labels is not None and len(torch.unique(few.labels)) == len(few)


def _curves(found: Found, rows: list[Row]) -> dict[str, Picture]:
    """The best by name, the others behind them; none where every training has one figure only."""
    first = found.first
    points = {
        row["run"]: [(one["images"], one[first]) for one in row["figures"] if one[first] is not None] for row in rows
    }
    points = {run: of for run, of in points.items() if of}
    if max(map(len, points.values()), default=0) < 2:
        return {}
    leading = [row["run"] for row in rows if len(points.get(row["run"], ())) > 1][:NAMED]
    drawn = {found.short(run): ([x for x, _ in of], [y for _, y in of]) for run, of in points.items()}
    series = {found.short(run): drawn[found.short(run)] for run in leading}
    others = {name: of for name, of in drawn.items() if name not in series}
    label = LABELS[first]
    factors = all(value > 0 for of in points.values() for _, value in of)
    picture = Picture.drawn(
        f"{label} over images seen",
        f"{label} of every training at the rungs that it reached; most end early",
        lambda theme: curve(series, "images seen", label, logy=factors, behind=others, theme=theme),
        f"By name: the {len(series)} best of those that went on; in grey the others, which end where they were given up.",
    )
    return {"trials": picture}


def _by_value(begun: list[Row], values: list[float], name: str, knob: Any) -> list[tuple[Any, list[float]]]:
    """What the trainings with each of a knob's choices reached; nothing of a range."""
    pairs = [(row["knobs"][name], value) for row, value in zip(begun, values, strict=True) if math.isfinite(value)]
    of = [(choice, [value for own, value in pairs if own == choice]) for choice in getattr(knob, "values", ())]
    return [(choice, found) for choice, found in of if found]


def _tried(knob: Any) -> str:
    if hasattr(knob, "low"):
        return f"{knob.low:g} to {knob.high:g}{', by factors' if knob.log else ''}"
    return ", ".join(f"[{written(value)}]" if isinstance(value, list) else written(value)
                     for value in getattr(knob, "values", knob))  # fmt: skip


def _at(row: Mapping[str, Any], name: str, rung: int) -> float:
    value = row["figures"][rung][name]
    return math.inf if value is None else float(value)


def _last(row: Mapping[str, Any], name: str) -> float:
    return _at(row, name, -1) if row["figures"] else math.inf


def _figure(row: Mapping[str, Any], name: str) -> Cell:
    value = _last(row, name)
    return number(value) if math.isfinite(value) else None
