"""When a model takes another's place: better in some figures, no worse in others, each by more than the 99 % interval of the
difference.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from langevin.errors import ConfigError
from langevin.evaluation.comparison import BESIDE, Comparison
from langevin.evaluation.intervals import Figure

USUAL = ("fid", "rfid")  # by which a model is judged where nothing is declared: the first of them that it has


@dataclass(frozen=True)
class Verdict:
    """Whether the challenger won, and why in words."""

    won: bool
    reason: str


@dataclass(frozen=True)
class Rule:
    """better: in every one of these by more than the 99 % interval of the difference; no_worse: in none of these worse by more
    than it.
    """

    better: tuple[str, ...]
    no_worse: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, better: tuple[str, ...], no_worse: tuple[str, ...], figures: Mapping[str, Figure], file: Path | None = None
    ) -> Rule:
        """What a recipe declares, or the usual where it names nothing to be better in. ConfigError: no such figure."""
        known = sorted(figures.keys() - BESIDE)
        usual = tuple(name for name in USUAL if name in figures)[:1]
        if not better and not usual:
            raise ConfigError("is needed: there is no FID to judge by", file=file, field="promote.better",
                              mend=f"choose from {', '.join(known)}")  # fmt: skip
        for field, names in (("better", better), ("no_worse", no_worse)):
            for name in names:
                if name not in known:
                    near = difflib.get_close_matches(name, known, 1)
                    problem = (
                        "is beside the figure that judges" if name in BESIDE else "is no figure of this evaluation"
                    )
                    raise ConfigError(problem, file=file, field=f"promote.{field}", value=name,
                                      mend=f"did you mean {near[0]}?" if near else f"choose from {', '.join(known)}")  # fmt: skip
        return cls(better or usual, no_worse)

    def decide(self, compared: Mapping[str, Comparison], champion: str) -> Verdict:
        """compared: champion before, challenger after; champion: what to call it ("version 3")."""
        if missing := [name for name in (*self.better, *self.no_worse) if name not in compared]:
            return Verdict(False, f"not compared with {champion}, which has no {', '.join(missing)}")
        short = [name for name in self.better if not compared[name].better]
        worse = [name for name in self.no_worse if compared[name].worse]
        if not short and not worse:
            kept = f"; no worse: {_said(self.no_worse, compared)}" if self.no_worse else ""
            return Verdict(True, f"better than {champion}: {_said(self.better, compared)}{kept}")
        reasons = []
        if short:
            reasons.append(f"not better than {champion} by more than the interval: {_said(short, compared)}")
        if worse:
            reasons.append(f"worse than {champion} by more than the interval: {_said(worse, compared)}")
        return Verdict(False, "; ".join(reasons))


def _said(names: tuple[str, ...] | list[str], compared: Mapping[str, Comparison]) -> str:
    return "; ".join(_figures(name, compared[name]) for name in names)


def _figures(name: str, found: Comparison) -> str:
    paired = " (paired)" if found.paired else ""
    figures = f"{found.after.value:.4g} against {found.before.value:.4g}"
    return f"{name} {figures}, 99 % interval of the difference {found.margin:.2g}{paired}"
