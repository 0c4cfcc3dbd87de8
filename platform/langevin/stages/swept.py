"""The parts of a page about settings of the sampling that were swept: `langevin sweep` left a file of each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from langevin.evaluation.intervals import Figure
from langevin.evaluation.suite import Evaluation
from langevin.reporting.figures import Scale, curve
from langevin.reporting.page import Cell, Picture, Table
from langevin.stages.compare import FIGURES
from langevin.stages.subject import Part, Subject
from langevin.stages.summary import number, written
from langevin.stages.sweep import SHOWN
from langevin.stages.trade_offs import Row, calls, trade_offs

ASKED = {"caption_both": "test captions", "heldout_both": "new pairs"}  # shape and colour right
HEADS = {
    **FIGURES,
    **{name: f"{name.partition('_')[2]} right, {what}" for name, what in (
        ("caption_both", "test captions"), ("heldout_shape", "new pairs"), ("heldout_colour", "new pairs"),
        ("heldout_both", "new pairs"))},
}  # fmt: skip
FACTOR = 20  # from where on values are shown by factors


@dataclass(frozen=True)
class Swept:
    """A setting's values with what was measured at each, on the evaluated checkpoint and alike; left_out: how many were not."""

    field: str
    rows: list[Row]
    left_out: int


def swept(subject: Subject) -> list[Swept]:
    """The sweeps that the page can show, by the name of the field."""
    found = []
    for path in subject.outputs.sweeps:
        said = json.loads(path.read_text())
        rows = [(row["value"], Evaluation.from_json(row["evaluation"])) for row in said["rows"]
                if row["sha256"] == subject.evaluated["sha256"]]  # fmt: skip
        alike = _in_order([row for row in rows if _alike(row[1], rows[-1][1], said["field"])])
        if alike:
            found.append(Swept(said["field"], alike, len(said["rows"]) - len(alike)))
    return found


def sweeps(subject: Subject) -> list[Part]:
    """A part a setting, of the values that were measured on the evaluated checkpoint; and what calls of the network buy."""
    found = swept(subject)
    costs = calls(subject.ours, [(one.field, one.rows) for one in found])
    return [*(_part(subject, one) for one in found), *([costs] if costs else [])]


def _part(subject: Subject, found: Swept) -> Part:
    field, alike = found.field, found.rows
    chosen = subject.recipe.sample.plain().get(field)
    first = alike[0][1].figures
    pictures = {f"sweep-{field}-fid": _picture(field, alike, {"fid": "FID"}, chosen)}
    asked = {name: said for name, said in ASKED.items() if name in first} or {"recognised": "recognised"}
    if asked.keys() <= first.keys():
        pictures[f"sweep-{field}-shown"] = _picture(field, alike, asked, chosen)
    if field == "guidance":
        pictures |= trade_offs(alike)
    note = f"{alike[0][1].spec.generated_n:,} samples at each value, of the same noise; ± and bands: 95 % intervals."
    if found.left_out:
        note += f" Left out: {found.left_out} measured on another checkpoint or otherwise."
    return Part(f"Sweep of {field}", "", pictures, _table(field, alike, note))


def _alike(one: Evaluation, other: Evaluation, field: str) -> bool:
    return set(one.spec.differences(other.spec)) <= {f"sampling.{field}"}


def _in_order(rows: list[Row]) -> list[Row]:
    """Numbers rising; anything else as it was measured."""
    return sorted(rows, key=lambda row: row[0]) if all(_is_number(value) for value, _ in rows) else rows


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _picture(field: str, rows: list[Row], names: dict[str, str], chosen: Any) -> Picture:
    """Figures against the values: FID, or shares in percent."""
    values = [value for value, _ in rows]
    numbers = all(map(_is_number, values))
    places = [float(value) for value in values] if numbers else [float(place) for place in range(len(values))]
    log = numbers and places[0] > 0 and places[-1] >= FACTOR * places[0]
    at = {f"{written(value)}, as in the recipe": place for place, value in zip(places, values, strict=True)
          if value == chosen}  # fmt: skip
    scale = Scale(log, dict(zip(places, map(written, values), strict=True)), at)
    title, unit, times = ("FID", "FID", 1) if "fid" in names else ("What was asked for", "share right, %", 100)
    if "recognised" in names:
        title, unit = "Recognised as their class", "share, %"
    found = {said: [evaluation.figures[name] for _, evaluation in rows] for name, said in names.items()}
    series: dict[str, Any] = {said: (places, [times * one.value for one in figures]) for said, figures in found.items()}
    band: dict[str, Any] = {
        said: ([times * one.low for one in figures], [times * one.high for one in figures])
        for said, figures in found.items()
    }
    both = " Shape and colour right, of all objects asked for." if names.keys() <= ASKED.keys() else ""
    return Picture.drawn(
        f"{title} by {field}",
        f"{title} against {field}, with 95 % intervals",
        lambda theme: curve(series, field, unit, band=band, scale=scale, theme=theme),
        f"Bands: 95 % intervals.{both}",
    )


def _table(field: str, rows: list[Row], note: str) -> Table:
    names = [name for name in SHOWN if name in rows[0][1].figures]
    cells: list[tuple[Cell, ...]] = [
        (written(value), found.network_calls, *(_cell(found.figures[name]) for name in names)) for value, found in rows
    ]
    return Table((field, "calls", *(HEADS.get(name, name) for name in names)), tuple(cells), note)


def _cell(figure: Figure) -> str:
    if figure.unit == "fraction":
        return f"{figure.value:.1%} ± {figure.margin:.1%}"
    return f"{number(figure.value)} ± {figure.margin:.2g}"
