"""What the page says of the samples as a whole."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from langevin.evaluation.audit import Aspect, Gap
from langevin.stages.audited import audited, fid_by_number
from langevin.stages.summary import NAMES

from .conftest import evaluation


def subject(others: dict[str, float], audit: dict[str, Aspect]) -> Any:
    return SimpleNamespace(ours=replace(evaluation(2.0, others=others), audit=audit))


def test_gaps_are_named_and_chance_is_not() -> None:
    wide, narrow = Gap("3", 0.061, 0.102, 0.01), Gap("4", 0.11, 0.1, 0.02)
    classes = Aspect(0.05, 0.02, 0.001, 1250, "images", 2, (wide, narrow))
    part = audited(subject({}, {"class": classes}))
    assert part is not None
    assert part.text == "The largest gaps: class 3: 6.1% of the generated, 10.2% of the training images."
    assert part.table is not None
    assert part.table.rows == (
        ("class", "5.0%", "2.0%", "0.001", "3: 6.1% of the generated, 10.2% of the training images"),
    )
    equal = audited(subject({}, {"class": replace(classes, gaps=(narrow,))}))
    assert equal is not None
    assert equal.text == "No gap is larger than chance."
    assert audited(subject({}, {})) is None


def test_fid_by_number_is_drawn_where_it_was_measured() -> None:
    points = {"fid_half": 3.0, "fid_three_quarters": 2.4, "fid_infinity": 0.8}
    picture = fid_by_number(subject(points, {}))
    assert picture is not None
    assert "0.8, 95 % interval 0.79 to 0.81" in picture.caption
    assert fid_by_number(subject({}, {})) is None
    assert points.keys() <= NAMES.keys()
