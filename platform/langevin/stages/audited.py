"""The parts of a page about the samples as a whole: what they show too often or too seldom, and FID without its bias."""

from __future__ import annotations

from langevin.evaluation.audit import Aspect, in_words, largest
from langevin.reporting.figures import Scale, curve
from langevin.reporting.page import Cell, Picture, Table
from langevin.stages.subject import Part, Subject

POINTS = {"fid_half": "n/2", "fid_three_quarters": "3n/4", "fid": "n"}


def audited(subject: Subject) -> Part | None:
    """Generated against training images, an aspect a row; None of what was evaluated without samples."""
    found = subject.ours.audit
    if not found:
        return None
    gaps = largest(found)
    text = f"The largest gaps: {'; '.join(gaps)}." if gaps else "No gap is larger than chance."
    columns = ("of", "distance", "by chance", "p", "largest gap")
    rows = tuple(_row(name, aspect) for name, aspect in found.items())
    n = next(iter(found.values())).n
    note = (
        f"Distance: half of the sum over categories of how far the shares among {n:,} samples lie from those among the "
        "training images. By chance: its mean where images are exchanged at random between the two sets; p: how often such "
        "exchanges reach it. Gaps named above are beyond chance at 5 % over all categories together."
    )
    return Part("Samples against the training images", text, {}, Table(columns, rows, note))


def fid_by_number(subject: Subject) -> Picture | None:
    """FID against 1/n with the line to infinitely many images; None where it was not measured."""
    figures = subject.ours.figures
    if "fid_infinity" not in figures:
        return None
    whole, limit = figures["fid"], figures["fid_infinity"]
    share = {"fid_half": 2.0, "fid_three_quarters": 4 / 3, "fid": 1.0}
    points = ([share[name] for name in POINTS], [figures[name].value for name in POINTS])
    # the line goes through n and 3n/4; whether n/2 lies on it tells how far it can be trusted
    slope = whole.value - limit.value
    line = ([0.0, 2.0], [limit.value, limit.value + 2 * slope])
    names = {0.0: "∞", **{share[name]: said for name, said in POINTS.items()}}
    scale = Scale(False, names, {})
    return Picture.drawn(
        "FID by the number of images",
        "FID at n, three quarters and half of the images, and the line that leads to infinitely many",
        lambda theme: curve({"FID": points, "extrapolation": line}, "images, n = "
                            f"{whole.n:,}", "FID", scale=scale, theme=theme),
        f"At infinitely many images: {limit.value:.4g}, 95 % interval {limit.low:.4g} to {limit.high:.4g}.",
    )  # fmt: skip


def _row(name: str, aspect: Aspect) -> tuple[Cell, ...]:
    return (
        name,
        f"{aspect.distance:.1%}",
        f"{aspect.chance:.1%}",
        f"{aspect.p:.3f}",
        in_words("", aspect, aspect.gaps[0]).strip(),
    )
