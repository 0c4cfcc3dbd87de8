"""The page is complete in itself, and what comes from outside is text and nothing else."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from langevin.reporting.bars import bars
from langevin.reporting.figures import Scale, curve
from langevin.reporting.mosaics import _text_width, _wrapped, caption_grid, class_grid, paired_grid, sheet, trajectory
from langevin.reporting.page import Picture, Report, Section, Table, render
from langevin.reporting.planes import Cloud, plane
from langevin.reporting.sheets import contact_sheet
from langevin.reporting.theme import DARK, LIGHT

HOSTILE = '<script>alert("x")</script>'


class Reader(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "action") and value:
                self.addresses.append(value)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (30, 1, 8, 8), dtype=np.uint8)


@pytest.fixture(scope="module")
def page(images: np.ndarray) -> str:
    picture = Picture.drawn("Samples", HOSTILE, lambda theme: class_grid(images, np.arange(30) % 3, "abc", theme=theme))
    section = Section(HOSTILE, HOSTILE, (picture,), Table((HOSTILE, "b"), ((HOSTILE, 1.23456), ("x", None)), HOSTILE))
    return render(Report(HOSTILE, HOSTILE, "2026-01-01T00:00:00", ((HOSTILE,) * 3,), (section,), ((HOSTILE, HOSTILE),)))


def test_nothing_is_fetched_and_every_image_is_a_png_inside(page: str) -> None:
    found = Reader(page)
    assert not re.search(r"url\(\s*['\"]?(?!data:)", page)
    inside = [address for address in found.addresses if address.startswith("data:image/png;base64,")]
    assert len(inside) >= 1
    assert all(address.startswith(("data:", "#")) for address in found.addresses)
    for address in inside:
        Image.open(io.BytesIO(base64.b64decode(address.split(",", 1)[1]))).verify()


def test_hostile_text_stays_text(page: str) -> None:
    assert "script" not in Reader(page).tags
    assert page.count("&lt;script&gt;") >= 8


def test_cells_are_rounded_and_what_is_missing_is_a_dash(page: str) -> None:
    assert "1.235" in page
    assert "1.23456" not in page


def test_a_row_of_another_length_than_the_head_is_refused() -> None:
    with pytest.raises(ValueError, match="1 cells under 2 columns"):
        Table(("a", "b"), (("x",),))


def test_the_grid_shows_each_class_in_its_row() -> None:
    """Class k is a flat grey of its own: read back from the picture, the rows come in the classes' order."""
    greys = [40, 120, 200]
    images = np.stack([np.full((1, 8, 8), greys[k % 3], np.uint8) for k in range(12)])
    picture = np.asarray(Image.open(io.BytesIO(class_grid(images, np.arange(12) % 3, ["a", "b", "c"]))).convert("L"))
    rows = [int(np.median(np.nonzero((picture == grey).any(axis=1))[0])) for grey in greys]
    assert rows == sorted(rows)


def test_images_stand_under_their_captions_in_reading_order() -> None:
    """Each of a flat grey of its own: read back, they come in rows of three, and a longer caption moves its row down."""
    greys = [30, 80, 100, 150, 200]
    images = np.stack([np.full((1, 8, 8), grey, np.uint8) for grey in greys])

    def places(captions: list[str]) -> list[tuple[int, int]]:
        picture = np.asarray(Image.open(io.BytesIO(caption_grid(images, captions, columns=3))))
        found = [(picture == grey).all(axis=2) for grey in greys]
        assert min(mask.sum() for mask in found) >= 200**2
        return [(int(np.median(np.nonzero(mask)[0])), int(np.median(np.nonzero(mask)[1]))) for mask in found]

    short = places(["a", "b", "c", "d", ""])
    (y, x), (_, x1), (_, x2), (y3, _), _ = short
    assert short == [(y, x), (y, x1), (y, x2), (y3, x), (y3, x1)]
    assert x < x1 < x2
    assert y < y3
    long = places(["a", "b", "c", "d", "a text of many words that nobody can write in a single line"])
    assert long[:3] == short[:3]
    assert long[3][0] == long[4][0] > y3
    with pytest.raises(ValueError, match="2 captions cannot stand over 5 images"):
        caption_grid(images, ["a", "b"])


@pytest.mark.filterwarnings("ignore:Glyph")  # not every machine has a font for every script
@pytest.mark.parametrize(
    "text", ["", "word", "several words of a text", "x" * 300, "青い立方体" * 20, "a <b> $c$ " * 30]
)
def test_captions_are_broken_into_lines_that_fit(text: str) -> None:
    lines = _wrapped(text, 214)
    assert 1 <= len(lines) <= 6
    assert all(_text_width(line, 22) <= 214 for line in lines[:-1])
    whole = "".join("".join(lines).split())
    assert whole.endswith("…") or whole == "".join(text.split())


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_figures_differ_where_their_data_do(theme: object) -> None:
    one = curve({"loss": ([1, 2, 3], [3.0, 2.0, 1.0])}, "images", "loss", theme=theme)  # type: ignore[arg-type]
    other = curve({"loss": ([1, 2, 3], [1.0, 2.0, 3.0])}, "images", "loss", theme=theme)  # type: ignore[arg-type]
    assert one != other
    assert one == curve({"loss": ([1, 2, 3], [3.0, 2.0, 1.0])}, "images", "loss", theme=theme)  # type: ignore[arg-type]


def _places(picture: bytes, greys: list[int]) -> list[tuple[int, int]]:
    """Where the middle of each flat image is, read back from a picture."""
    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
    masks = [(pixels == grey).all(axis=2) for grey in greys]
    return [(int(np.median(np.nonzero(mask)[0])), int(np.median(np.nonzero(mask)[1]))) for mask in masks]


def test_what_belongs_together_stands_one_under_the_other() -> None:
    """Five pairs, three in a row: each below its own, and the second group below the first, a little further off."""
    above, below = [20, 30, 40, 50, 60], [120, 130, 140, 150, 160]
    rows = {"image": np.stack([np.full((1, 8, 8), grey, np.uint8) for grey in above]),
            "comes back": np.stack([np.full((1, 8, 8), grey, np.uint8) for grey in below])}  # fmt: skip
    found = _places(paired_grid(rows, columns=3), above + below)
    first, second = found[:5], found[5:]
    assert [x for _, x in first] == [x for _, x in second]
    assert first[0][1] < first[1][1] < first[2][1]
    assert (first[3][1], first[4][1]) == (first[0][1], first[1][1])
    between_pair, between_groups = second[0][0] - first[0][0], first[3][0] - second[0][0]
    assert 0 < between_pair < between_groups
    assert {b[0] - a[0] for a, b in zip(first, second, strict=True)} == {between_pair}


def test_a_sheet_holds_its_rows_in_order_and_clips_what_is_no_image() -> None:
    rows = [np.stack([np.full((1, 8, 8), value / 127.5 - 1) for value in row]) for row in ((40, 80), (120, 160))]
    (y, x), (y1, x1), (y2, x2), (y3, x3) = _places(sheet(rows), [40, 80, 120, 160])
    assert (y, x, y2, x1) == (y1, x2, y3, x3)
    assert (y < y2, x < x1) == (True, True)
    assert sheet([np.full((1, 1, 8, 8), 5.0)]) == sheet([np.full((1, 1, 8, 8), 1.0)])


def test_every_tile_ends_in_a_line_so_that_white_images_are_seen_on_a_white_page() -> None:
    picture = np.asarray(Image.open(io.BytesIO(sheet([np.ones((2, 1, 8, 8))]))))
    line = (picture == tuple(bytes.fromhex(LIGHT.rule[1:]))).all(axis=2)
    assert line[0].sum() == line[-1].sum() == 2 * (8 * 8 + 2)
    assert line[:, 0].all()


def test_an_axis_may_count_by_factors_name_its_places_and_mark_one() -> None:
    def drawn(scale: Scale) -> bytes:
        return curve({"FID": ([1, 2, 64], [3.0, 2.0, 1.0])}, "calls", "FID", scale=scale)

    ticks = {1.0: "one", 2.0: "two", 64.0: "64"}
    scales = [Scale(), Scale(log=True), Scale(True, ticks), Scale(True, ticks, {"chosen": 2.0}), Scale(ticks=ticks)]
    assert len({drawn(scale) for scale in scales}) == len(scales)
    aslant = {place: name * 14 for place, name in ticks.items()}
    assert Image.open(io.BytesIO(drawn(Scale(True, aslant)))).size == Image.open(io.BytesIO(drawn(Scale()))).size


def test_a_trajectory_needs_a_caption_a_state() -> None:
    with pytest.raises(ValueError, match="2 states"):
        trajectory([np.zeros((1, 1, 8, 8))] * 2, ["only one"])


def test_a_contact_sheet_holds_every_image_in_reading_order(images: np.ndarray) -> None:
    sheet = contact_sheet(images[:5], columns=3, edge=8)
    assert sheet.shape == (18, 27)
    np.testing.assert_array_equal(sheet[9:17, 9:17], images[4, 0])
    np.testing.assert_array_equal(sheet[:8, 18:26], images[2, 0])
    assert sheet[9:, 18:].max() == 0
    colour = contact_sheet(images[:6].reshape(2, 3, 8, 8), columns=2, edge=16)
    assert colour.shape == (17, 34, 3)
    np.testing.assert_array_equal(colour[:16:2, :16:2], images[:3, 0].transpose(1, 2, 0))


def _colour_of(picture: bytes, colour: str) -> np.ndarray:
    """Where a picture has this very colour: (n, 2) rows and columns."""
    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
    return np.argwhere((pixels == tuple(bytes.fromhex(colour[1:]))).all(axis=2))


def test_bars_are_as_long_as_their_shares_and_the_largest_is_first() -> None:
    picture = bars(
        {"small": 0.2, "a name that is longer than any chart of this width could hold in its margin": 0.8}, ""
    )
    found = _colour_of(picture, LIGHT.series[0])
    rows = np.unique(found[:, 0])
    above, below = (found[found[:, 0] == row, 1] for row in (rows[0] + 2, rows[-1] - 2))
    assert np.ptp(above) / np.ptp(below) == pytest.approx(4, rel=0.02)


def test_a_plane_names_its_points_where_there_is_room() -> None:
    """A name is left out where it would lie on another one; intervals are drawn."""
    piled = {"a": Cloud([1.0] * 9 + [2.0], [1.0] * 9 + [2.0], [f"w = {number}" for number in range(9)])}
    picture = plane(piled, "x", "y")
    assert picture == plane(piled, "x", "y")
    few = plane({"a": Cloud(piled["a"].x, piled["a"].y, piled["a"].names[:1])}, "x", "y")
    written = [len(_colour_of(found, LIGHT.text)) for found in (few, picture)]
    assert written[0] < written[1] < 9 * written[0]  # some, and not all
    clouds = (Cloud([1, 2, 4], [3, 2, 1]), Cloud([1, 2, 4], [3, 2, 1], around_y=([2, 1, 0], [4, 3, 2])))
    assert len({plane({"a": cloud}, "x", "y", Scale(log=True), {"floor": 0.5}) for cloud in clouds}) == 2
