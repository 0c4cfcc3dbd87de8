"""Which checkpoint is evaluated next: one at a time, the newest, and the last one always."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from langevin.evaluation.thinning import Thinning, Turn


def test_nothing_is_left_out_where_evaluation_keeps_up() -> None:
    thinning = Thinning()
    assert thinning.take() is None
    for images in (512, 1024):
        thinning.offer(range(512, images + 1, 512))
        assert thinning.take() == Turn(images)
        assert thinning.take() is None
        thinning.over()
    assert thinning.take() is None


def test_what_comes_while_one_runs_is_thinned_to_the_newest() -> None:
    thinning = Thinning()
    thinning.offer([512])
    assert thinning.take() == Turn(512)
    for images in (1024, 1536, 2048):
        thinning.offer([512, images])
        assert thinning.take() is None
    thinning.over()
    assert thinning.take() == Turn(2048, (1024, 1536))


def test_another_life_begins_after_what_the_one_before_evaluated() -> None:
    thinning = Thinning(evaluated=1024)
    thinning.offer([512, 1024])
    assert thinning.take() is None
    thinning.offer([512, 1024, 1536, 2048])
    assert thinning.take() == Turn(2048, (1536,))


@given(st.lists(st.sampled_from(["commit", "over"]), max_size=60), st.integers(1, 4))
def test_every_checkpoint_is_evaluated_or_thinned_once_and_the_last_is_evaluated(events: list[str], keep: int) -> None:
    thinning, committed = Thinning(), 0
    evaluated: list[int] = []
    thinned: list[int] = []

    def step() -> None:
        thinning.offer(range(max(committed - keep, 0) + 1, committed + 1))  # the older ones are removed
        if turn := thinning.take():
            evaluated.append(turn.images)
            thinned.extend(turn.thinned)

    for event in events:
        if event == "commit":
            committed += 1
        elif thinning.running:
            thinning.over()
        step()
    if thinning.running:
        thinning.over()
    step()
    assert sorted(evaluated + thinned) == list(range(1, committed + 1))
    assert evaluated == sorted(evaluated)
    assert evaluated[-1:] == [committed][: bool(committed)]
