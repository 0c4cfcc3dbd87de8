"""How a combination is refused, and what more than one check asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from langevin.config import model as sections
from langevin.errors import ConfigError


def refuse(path: Path | None, field: str, value: Any, problem: str, mend: str) -> NoReturn:
    raise ConfigError(problem, file=path, field=field, value=value, mend=mend)


def is_ladder(model: sections.Model) -> bool:
    return isinstance(model, sections.NCSN | sections.NCSNv2)


def check_rungs(steps: int, levels: int, path: Path | None) -> None:
    if steps != levels:
        refuse(path, "sample.steps", steps, f"annealed Langevin dynamics visit each of the {levels} levels of the ladder",
                f"give {levels}")  # fmt: skip
