"""The closing table: every figure with its interval and n, and the champion's beside it."""

from __future__ import annotations

import pytest

from langevin.config.recipe import Recipe
from langevin.errors import DataError
from langevin.stages.outputs import Outputs, write_json
from langevin.stages.summary import figures, number, rows, summary

from .conftest import evaluation


def test_rows_are_in_order_with_the_champion_beside_them() -> None:
    ours = evaluation(3.5, others={"nll": 1.85, "of_tomorrow": 0.123456, "recognised": 0.97})
    evaluated = {"evaluation": ours.to_json(), "champion": None}
    found = rows(evaluated)
    assert [row[0] for row in found] == [
        *("FID, samples against test", "FID floor, train against test", "recognised as their class", "NLL, bits/dim"),
        "of_tomorrow",  # a figure without a name of its own is shown under its key
    ]
    assert found[0] == ("FID, samples against test", "3.5", "3.4 to 3.6", "1250", "-", "-")
    beside = {"model": "models:/small/1", "evaluation": evaluation(4.25).to_json()}
    assert [row[4:] for row in rows(evaluated | {"champion": beside})] == [
        ("4.25", "-0.75 ± 0.19"),
        ("1", "-"),  # of the data alone
        *([("-", "-")] * 3),
    ]
    paired = {"fid": {"value": -0.75, "low": -0.8, "high": -0.7, "n": 1250, "unit": ""}}
    assert rows(evaluated | {"champion": beside | {"differences": paired}})[0][5] == "-0.75 ± 0.066"


def test_the_table_as_text_has_a_line_a_figure() -> None:
    text = figures({"evaluation": evaluation(3.5).to_json(), "champion": None})
    assert [line.split("  ")[0] for line in text.splitlines()] == [
        *("figure", "FID, samples against test", "FID floor, train against test"),
    ]


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0, "0"), (1.23456, "1.235"), (12345.6, "1.235e+04"), (-1e-9, "-1e-09")]
)
def test_numbers_have_four_digits(value: float, shown: str) -> None:
    assert number(value) == shown


def test_the_summary_says_what_to_do_where_a_stage_is_missing(recipe: Recipe) -> None:
    outputs = Outputs.of(recipe)
    with pytest.raises(DataError, match=r"evaluation.json.*langevin evaluate"):
        summary(recipe)
    evaluated = {"evaluation": evaluation(3.5).to_json(), "champion": None, "parameters": 40305, "images": 1024}
    write_json(outputs.evaluation, evaluated)
    with pytest.raises(DataError, match=r"promotion.json.*langevin promote"):
        summary(recipe)
    write_json(outputs.promotion, {"model": "models:/small/3", "alias": "champion", "reason": "the first version"})
    with pytest.raises(DataError, match=r"manifest.json.*langevin generate"):
        summary(recipe)
    write_json(outputs.generated / "manifest.json", {"samples": 64, "request": {"model": "models:/small/3"}})
    shown = summary(recipe)
    for part in ("40,305 parameters, 1,024 images", "models:/small/3 @champion: the first version", "64 images of"):
        assert part in shown
