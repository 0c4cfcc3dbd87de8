"""The parts of a search's page about its sampling settings: the Pareto front, and which were given up when."""

from __future__ import annotations

from typing import Any

from langevin.reporting.axes import Scale
from langevin.reporting.page import Cell, Picture, Table
from langevin.reporting.planes import Cloud, plane
from langevin.search.halving import rounds
from langevin.stages.candidates import FEWEST
from langevin.stages.searched import LABELS, Found
from langevin.stages.subject import Part
from langevin.stages.summary import number, written

ROWS = 60  # of the table of settings
FACTOR = 4  # from where on network calls are shown by factors
Row = dict[str, Any]


def pareto(found: Found) -> Part | None:
    """What no other setting beats in all objectives at once; None of a search with one."""
    result = found.result
    first, *others = result["objectives"]
    last = _last_round(found)
    if not others or not last:
        return None
    pictures = {f"front-{other}": _front(found, first, other) for other in others}
    text = (f"{len(result['front'])} of the {len(last)} settings of the last round, all measured on {last[0]['n']:,} samples, "
            "are beaten by no other one in all objectives at once.") if last[0]["n"] else (
            f"{len(result['front'])} of {len(last)} trainings are beaten by no other one in all objectives at once.")  # fmt: skip
    return Part("Pareto front", text, pictures, _table(found, result["front"], ""))


def sampling(found: Found) -> Part | None:
    """Every setting on every finished training, by successive halving over the samples; None where nothing was drawn."""
    result = found.result
    rows = sorted(result["sampling"], key=lambda row: (-row["n"], row["figures"][found.first]))
    if not result["drawn"]["images"]:
        return None
    drawn, whole = result["drawn"]["images"], result["drawn"]["of_all_settings_whole"]
    counts = rounds(len(rows), found.loaded.base.evaluate.images, FEWEST)
    text = (f"{len(rows)} settings, of {len({row['run'] for row in rows})} finished trainings, met the same noise: all at "
            f"{counts[0]:,} samples, after every round the better half at twice as many. {drawn:,} images were drawn, "
            f"{drawn / whole:.0%} of what all settings at full number would take.")  # fmt: skip
    left = f" {len(rows) - ROWS} more are in out/{result['search']}/search.json." if len(rows) > ROWS else ""
    note = f"Figures of fewer samples read higher: only those of the same number compare.{left}"
    return Part("Sampling settings", text, {}, _table(found, rows[:ROWS], note))


def _front(found: Found, first: str, other: str) -> Picture:
    last = _last_round(found)
    chosen = sorted(found.result["front"], key=lambda row: row["figures"][other])
    earlier = [row for row in found.result["sampling"] if row["n"] < last[0]["n"]]
    clouds = {}
    if earlier:
        clouds["given up, at fewer samples"] = _cloud(earlier, first, other, quiet=True)
    beaten = [row for row in last if row not in chosen]
    if beaten:
        clouds["last round"] = _cloud(beaten, first, other)
    clouds["Pareto front"] = _cloud(chosen, first, other, names=_names(found, chosen), steps=True)
    values = [row["figures"][other] for row in (*earlier, *last)]
    log = min(values) > 0 and max(values) > FACTOR * min(values)
    ticks = {value: f"{value:g}" for value in sorted(set(values))} if log and len(set(values)) < 9 else {}
    scale = Scale(log, ticks)
    return Picture.drawn(
        f"{LABELS[first]} against {LABELS[other]}",
        f"Each setting as a point: {LABELS[other]} to the right, {LABELS[first]} upwards, less of both is better; the front: "
        + "; ".join(f"{row['figures'][first]:.4g} at {row['figures'][other]:.4g}" for row in chosen),
        lambda theme: plane(clouds, LABELS[other], LABELS[first], scale, theme=theme),
        f"Less of both is better. The line: the least {LABELS[first]} that can be had for so much."
        f"{' Bars: 95 % intervals.' if first == 'fid' and _around(chosen) else ''}",
    )


def _cloud(rows: list[Row], first: str, other: str, **look: Any) -> Cloud:
    around = _around(rows) if first == "fid" else None
    return Cloud(
        [row["figures"][other] for row in rows], [row["figures"][first] for row in rows], around_y=around, **look
    )


def _around(rows: list[Row]) -> tuple[list[float], list[float]] | None:
    if not all(row["interval"] for row in rows):
        return None
    return [row["interval"][0] for row in rows], [row["interval"][1] for row in rows]


def _names(found: Found, rows: list[Row]) -> list[str]:
    """What tells the front's points apart: settings of the sampling, or else the training."""
    last = _last_round(found)
    moved = [
        name for name in found.loaded.search.sampling if len({written(row["sampling"].get(name)) for row in last}) > 1
    ]
    if not moved:
        return [found.short(row["run"]) for row in rows]
    return [", ".join(f"{name} {written(row['sampling'].get(name))}" for name in moved) for row in rows]


def _last_round(found: Found) -> list[Row]:
    rows: list[Row] = found.result["sampling"]
    most = max((row["n"] for row in rows), default=0)
    return [row for row in rows if row["n"] == most]


def _table(found: Found, rows: list[Row], note: str) -> Table:
    settings = list(found.loaded.search.sampling)
    names = list(dict.fromkeys([*found.result["objectives"], *(["network_calls"] if _has_calls(rows) else [])]))
    cells: list[tuple[Cell, ...]] = [
        (found.short(row["run"]), *(written(row["sampling"][name]) if name in row["sampling"] else None for name in settings),
         *(_figure(row, name) for name in names), f"{row['n']:,}" if row["n"] else None)
        for row in rows
    ]  # fmt: skip
    return Table(("training", *settings, *(LABELS[name] for name in names), "samples"), tuple(cells), note)


def _has_calls(rows: list[Row]) -> bool:
    return all("network_calls" in row["figures"] for row in rows)


def _figure(row: Row, name: str) -> str:
    value = number(row["figures"][name])
    if name == "fid" and row["interval"]:
        return f"{value} ± {(row['interval'][1] - row['interval'][0]) / 2:.2g}"
    return value
