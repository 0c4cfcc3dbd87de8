"""How far a stage is: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

LINE_EVERY_S = 10.0
console = Console(stderr=True, highlight=False)


class Stage:
    """``with Stage("train", total) as stage: stage.at(done, loss=...)``: stage, images, images/s, ETA, and what else."""

    def __init__(self, name: str, total: int, unit: str = "images") -> None:
        self.name, self.total, self.unit = name, total, unit
        self.started, self.first, self.told, self.done = time.monotonic(), 0, time.monotonic(), 0
        self.bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} " + unit),
            TextColumn("{task.fields[notes]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.task: TaskID | None = None

    def __enter__(self) -> Stage:
        self.bar.start()
        self.task = self.bar.add_task(self.name, total=self.total, notes="")
        return self

    def at(self, done: int, **notes: float) -> None:
        """done: of the total so far; notes: figures to show beside it."""
        now = time.monotonic()
        if self.done == 0:  # what was there before we looked has no rate
            self.started, self.first = now, done
        self.done = done
        elapsed = now - self.started
        if elapsed > 0 and done > self.first and "per_second" not in notes:
            notes["per_second"] = (done - self.first) / elapsed
        text = "  ".join(_note(name, value, self.unit) for name, value in notes.items())
        assert self.task is not None
        self.bar.update(self.task, completed=done, notes=text)
        if not console.is_terminal and now - self.told > LINE_EVERY_S:
            self.told = now
            console.print(f"{self.name}: {done:,}/{self.total:,} {self.unit}  {text}")

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        self.bar.stop()


def say(text: str) -> None:
    """A line for people, on stderr: stdout belongs to results."""
    console.print(text, soft_wrap=True)


def _note(name: str, value: float, unit: str) -> str:
    return f"{value:,.0f} {unit}/s" if name == "per_second" else f"{name} {value:.4g}"
