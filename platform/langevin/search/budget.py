"""What a search may spend: images over all trials, and time. Asked before anything is begun, never in its middle."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Budget:
    """images, seconds: None is without end. spent: images that were begun; before: seconds of earlier lives of the search."""

    images: int | None = None
    seconds: float | None = None
    spent: int = 0
    before: float = 0.0
    clock: Callable[[], float] = time.monotonic
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.clock()

    @property
    def elapsed(self) -> float:
        """Seconds, over all lives of the search."""
        return self.before + self.clock() - self.started

    @property
    def in_time(self) -> bool:
        return self.seconds is None or self.elapsed < self.seconds

    def begin(self, images: int) -> bool:
        """Whether so many images may still be begun; counts them if so."""
        if not self.in_time or (self.images is not None and self.spent + images > self.images):
            return False
        self.spent += images
        return True
