"""What can go wrong, as types. The command line turns each into one line on stderr and an exit code.

``UserError`` and its children are the caller's mistake (exit code 2): they name the place (file, field), the value
found there and the mend. Every other ``LangevinError`` is a failure of the work itself (exit code 1).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


class LangevinError(Exception):
    """Base of all errors that this package raises on purpose."""

    exit_code = 1


class UserError(LangevinError):
    """The caller's mistake, in one line: ``FILE: FIELD = VALUE: PROBLEM; MEND``. Each part but the problem is optional."""

    exit_code = 2

    def __init__(
        self,
        problem: str,
        *,
        file: str | Path | None = None,
        field: str | None = None,
        value: Any = None,
        mend: str | None = None,
    ) -> None:
        self.problem, self.file, self.field, self.value, self.mend = problem, file, field, value, mend
        super().__init__(problem)

    def __str__(self) -> str:
        found = None if self.value is None else repr(self.value)
        place = " = ".join(part for part in (self.field, found) if part)
        parts = (str(self.file or ""), place, self.problem)
        line = ": ".join(part for part in parts if part)
        line = f"{line}; {self.mend}" if self.mend else line
        return " ".join(line.split())  # one line, whatever a library put into the problem

    def __reduce__(self) -> Any:  # keyword arguments survive the way through a worker process
        return _rebuild, (type(self), self.problem, self.file, self.field, self.value, self.mend)


def _rebuild(kind: type[UserError], problem: str, file: Any, field: Any, value: Any, mend: Any) -> UserError:
    return kind(problem, file=file, field=field, value=value, mend=mend)


class ConfigError(UserError):
    """A recipe, a parameter or an option that cannot be used as it stands."""


class DataError(UserError):
    """A data set that is missing, damaged or not what its manifest says."""


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged, unsafe or of another architecture."""


class RegistryError(UserError):
    """A registered model, version or alias that does not exist."""


class NumericsError(LangevinError):
    """A loss, gradient or statistic that is not finite."""


class TrackingError(LangevinError):
    """The tracking server could not be reached, or refused."""
