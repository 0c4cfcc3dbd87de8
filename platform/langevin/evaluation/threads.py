"""Work on batches side by side. Torch lets go of Python's lock inside its operations, so threads share out the cores."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> list[Result]:
    """work(item) for every item, in the items' order. Set torch to one thread an operation: a batch's bytes then depend
    on no machine's number of cores, and cores that are busy elsewhere hold up one batch and not every operation.
    """
    if threads == 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, items))
