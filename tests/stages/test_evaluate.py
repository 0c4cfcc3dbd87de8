"""The labels that the metrics' samples are asked for: the classes in the training images' own proportions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from langevin.stages.evaluator import _spread


def _counts(labels: torch.Tensor, classes: int) -> np.ndarray:
    return np.bincount(labels.numpy(), minlength=classes)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.integers(1, 200))
def test_every_prefix_is_within_one_image_of_its_share(counts: list[int], count: int) -> None:
    """Nearly: quota methods that never take back may be off by a little more than one image with many classes."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    chosen = _spread(labels, count)
    assert len(chosen) == count
    shares = np.array(counts) / sum(counts)
    for n in range(1, count + 1):
        assert np.abs(_counts(chosen[:n], len(counts)) - n * shares).max() <= 1.5
    assert torch.equal(_spread(labels, count // 2 + 1), chosen[: count // 2 + 1])


def test_as_many_as_there_are_is_the_same_mix() -> None:
    labels = torch.tensor([0] * 7 + [1] * 2 + [2] * 11)
    assert _counts(_spread(labels, 20), 3).tolist() == [7, 2, 11]
    assert _counts(_spread(labels, 60), 3).tolist() == [21, 6, 33]


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0]])
def test_the_order_of_the_images_does_not_matter(order: list[int]) -> None:
    labels = torch.tensor([label for label in order for _ in range(label + 1)])
    assert torch.equal(_spread(labels, 12), _spread(labels.sort().values, 12))


def test_a_class_that_has_no_image_is_not_asked_for() -> None:
    assert set(_spread(torch.tensor([0, 0, 3]), 30).tolist()) == {0, 3}
