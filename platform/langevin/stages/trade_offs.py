"""What one figure costs of another one, as a sweep shows it: variety for fidelity, and network calls for FID."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langevin.evaluation.intervals import Figure
from langevin.evaluation.suite import Evaluation
from langevin.reporting.axes import Scale
from langevin.reporting.page import Picture
from langevin.reporting.planes import Cloud, plane
from langevin.search.front import front
from langevin.stages.subject import Part
from langevin.stages.summary import number, written

Row = tuple[Any, Evaluation]  # a setting's value, and what was measured there
FACTOR = 4  # from where on network calls are shown by factors
TICKS = 9  # different numbers of calls at most that are each named

# x, y, their labels, what they are multiplied by, and where both are better
PLANES = (
    ("inception_score", "fid", "inception score", "FID", 1, "Better: to the right and down."),
    ("recall", "precision", "recall (variety), %", "precision (fidelity), %", 100, "Better: to the right and up."),
)


def trade_offs(rows: Sequence[Row]) -> dict[str, Picture]:
    """Of a sweep of guidance: FID against inception score and precision against recall, a point a scale.

    None of what has fewer than two points.
    """
    values, found = [written(value) for value, _ in rows], [evaluation.figures for _, evaluation in rows]
    shown = [
        plan for plan in PLANES if len(rows) > 1 and all(name in figures for figures in found for name in plan[:2])
    ]
    pictures = {}
    for x, y, xlabel, ylabel, times, better in shown:
        across, up = (_scaled([figures[name] for figures in found], times) for name in (x, y))
        cloud = Cloud(across[0], up[0], values, across[1:], up[1:], joined=True)
        pictures[f"guidance-{y}-{x}"] = _drawn(cloud, xlabel, ylabel, better)
    return pictures


def calls(ours: Evaluation, swept: Sequence[tuple[str, Sequence[Row]]]) -> Part | None:
    """FID against network calls a sample, over all sweeps whose values differ in them: a curve a setting.

    ours: the recipe's own evaluation, a point of its own where it was measured like them; swept: (field, rows). Sweeps that
    were measured otherwise than the largest one are left out. None where no setting moves the calls.
    """
    moving = [(field, rows) for field, rows in swept if len({row[1].network_calls for row in rows}) > 1]
    if not moving or any(row[1].network_calls is None for _, rows in moving for row in rows):
        return None
    model = max(moving, key=lambda one: len(one[1]))[1][0][1]
    alike = [(field, rows) for field, rows in moving if _but_for_sampling(rows[0][1], model)]
    own = [ours] if ours.network_calls and _but_for_sampling(ours, model) else []
    everything = [(f"{field} {written(value)}", one) for field, rows in alike for value, one in rows]
    everything += [("as in the recipe", one) for one in own]
    points = [(one.figures["fid"].value, float(one.network_calls or 0)) for _, one in everything]
    best = sorted((points[place][::-1], everything[place][0]) for place in front(points))
    left_out = f" Left out: sweeps of {', '.join(f for f, r in moving if (f, r) not in alike)}, measured otherwise." * (
        len(alike) < len(moving))  # fmt: skip
    clouds = {f"by {field}": _cloud(rows) for field, rows in alike}
    if own:
        clouds["as in the recipe"] = Cloud([points[-1][1]], [points[-1][0]])
    counts = sorted({count for _, count in points})
    log = counts[-1] > FACTOR * counts[0]
    scale = Scale(log, {count: f"{count:g}" for count in counts} if log and len(counts) <= TICKS else {})
    floor = {"floor (train against test)": model.figures["fid_floor"].value} if "fid_floor" in model.figures else {}
    picture = Picture.drawn(
        "FID against network calls",
        "FID against the network calls of a sample, a curve for each setting that moves them",
        lambda theme: plane(clouds, "network calls a sample", "FID", scale, floor, theme),
        f"{model.spec.generated_n:,} samples each; bars: 95 % intervals.{left_out}",
    )
    said = "; ".join(f"{number(fid)} in {count:g} ({name})" for (count, fid), name in best)
    return Part("Network calls", f"Better for fewer calls than all others: FID {said}.", {"network-calls": picture})


def _scaled(figures: Sequence[Figure], times: float) -> tuple[list[float], list[float], list[float]]:
    """Values, lower and upper ends."""
    low, high = [times * one.low for one in figures], [times * one.high for one in figures]
    return [times * one.value for one in figures], low, high


def _but_for_sampling(one: Evaluation, other: Evaluation) -> bool:
    return all(name.startswith("sampling.") for name in one.spec.differences(other.spec))


def _cloud(rows: Sequence[Row]) -> Cloud:
    """In the order of the calls, which joins them where each value has its own."""
    ordered = sorted(rows, key=lambda row: row[1].network_calls or 0)
    counts = [float(one.network_calls or 0) for _, one in ordered]
    fids, *around = _scaled([one.figures["fid"] for _, one in ordered], 1)
    alone = len(set(counts)) == len(counts)
    return Cloud(counts, fids, [written(value) for value, _ in ordered], around_y=(around[0], around[1]), joined=alone)


def _drawn(cloud: Cloud, xlabel: str, ylabel: str, better: str) -> Picture:
    points = zip(cloud.names, cloud.x, cloud.y, strict=True)
    return Picture.drawn(
        f"{ylabel.partition(' (')[0]} against {xlabel.partition(' (')[0]} by guidance".capitalize().replace(
            "Fid", "FID"
        ),
        f"{ylabel} upwards, {xlabel} to the right, a point for each guidance: "
        + "; ".join(f"{name}: {number(y)} at {number(x)}" for name, x, y in points),
        lambda theme: plane({"guidance": cloud}, xlabel, ylabel, theme=theme),
        f"Each point a guidance, by its scale. {better} Bars: 95 % intervals.",
    )
