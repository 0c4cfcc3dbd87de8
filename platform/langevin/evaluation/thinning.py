"""Which checkpoint of a training is evaluated next, where they may come faster than they are evaluated."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Turn:
    """What is to be evaluated now, and what never will be beside this training; all in images seen."""

    images: int
    thinned: tuple[int, ...] = ()


class Thinning:
    """One evaluation at a time, and always of the newest checkpoint: those before it that still waited are left out.

    A training's last checkpoint is never left out, for no newer one comes. evaluated: the newest that an earlier life of
    the training evaluated, in images; nothing up to there is evaluated any more.
    """

    def __init__(self, evaluated: int = 0) -> None:
        self.newest, self.running = evaluated, False
        self._waiting: set[int] = set()

    def offer(self, committed: Iterable[int]) -> None:
        """Checkpoints that there are, in images; those that were offered before may be among them."""
        self._waiting |= {images for images in committed if images > self.newest}

    def take(self) -> Turn | None:
        """What to begin now; None while an evaluation runs or nothing waits."""
        if self.running or not self._waiting:
            return None
        *thinned, self.newest = sorted(self._waiting)
        self._waiting.clear()
        self.running = True
        return Turn(self.newest, tuple(thinned))

    def over(self) -> None:
        """The evaluation that was begun has ended, with a result or without: it is not begun again."""
        self.running = False
