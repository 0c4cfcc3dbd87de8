from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langevin.data.order import epoch_order


@settings(max_examples=200, deadline=None)
@given(
    n=st.integers(0, 3000),
    seed=st.integers(-(2**70), 2**70),
    epoch=st.integers(0, 10**6),
    block=st.integers(1, 200),
    window=st.integers(1, 20),
)
def test_an_epoch_is_a_permutation(n: int, seed: int, epoch: int, block: int, window: int) -> None:
    order = epoch_order(n, seed, epoch, "digest", block, window)
    assert order.dtype == np.int64
    assert np.array_equal(np.sort(order), np.arange(n))


def test_the_order_depends_on_seed_epoch_and_data_alone() -> None:
    base = epoch_order(500, 0, 0, "a")
    assert np.array_equal(base, epoch_order(500, 0, 0, "a"))
    for other in (epoch_order(500, 1, 0, "a"), epoch_order(500, 0, 1, "a"), epoch_order(500, 0, 0, "b")):
        assert np.mean(other == base) < 0.05


def test_the_order_never_changes_between_versions() -> None:
    """Frozen: a change here would change every training stream after a resume."""
    assert epoch_order(10, 0, 0, "").tolist() == [2, 8, 0, 6, 4, 7, 5, 3, 1, 9]


def test_reads_stay_inside_a_window_of_blocks() -> None:
    n, block, window = 100_000, 100, 10
    order = epoch_order(n, 3, 0, "a", block, window)
    for start in range(0, n, block * window):
        part = order[start : start + block * window]
        assert len(np.unique(part // block)) == window
        assert np.any(np.diff(part) < 0)


@pytest.mark.parametrize("n", [1437, 10_000])
def test_a_small_set_is_permuted_as_a_whole(n: int) -> None:
    """Every place is as likely to hold an early as a late sample: the mean rank by decile is flat within 4 sigma."""
    orders = np.stack([epoch_order(n, 0, epoch, "a") for epoch in range(50)])
    deciles = orders[:, : n // 10 * 10].reshape(50, 10, -1).mean(axis=(0, 2)) / (n - 1)
    sigma = 1 / np.sqrt(12 * 50 * (n // 10))
    assert np.abs(deciles - 0.5).max() < 4 * sigma
