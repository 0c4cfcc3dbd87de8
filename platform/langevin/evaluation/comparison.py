"""Two evaluations of one spec set against each other: what is better by more than chance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from langevin.errors import ConfigError
from langevin.evaluation.intervals import Figure, Z
from langevin.evaluation.suite import Evaluation

HIGHER_IS_BETTER = frozenset(
    {
        "inception_score",
        "precision",
        "recall",
        "density",
        "coverage",
        "authenticity",
        "recognised",
        "clip_score",
        "psnr",
    }
)
FLOORS = frozenset(
    {"fid_floor", "authenticity_floor", "fd_dinov2_floor", "clip_score_floor"}
)  # say something about the data, not about the model
FEWER = frozenset({"fid_half", "fid_three_quarters"})  # of fewer images, beside FID to show how it falls with n
BESIDE = FLOORS | FEWER  # by which no model is judged
PROOF = 2.5758293035489004  # the standard normal's 99.5 % point: what a difference must beat, in deviations


@dataclass(frozen=True)
class Comparison:
    """One figure in two evaluations. change: after - before; margin: the half-width of its 99 % interval, which a difference
    must beat; gain: > 0 is better; paired: whether what the two share is not in the margin.

    99 % and not the 95 % of the figures themselves: at 95 % the same model, measured with other noise, is "better" 2.5 times
    in 100 where the interval is right, and was 4 times in 100 on real digits, too near to the 5 that may move a champion. At
    99 % it is once in 200 times, and less than 2 in 100 where the interval is a fifth too narrow.
    """

    before: Figure
    after: Figure
    change: float
    margin: float
    gain: float
    paired: bool = False

    @property
    def better(self) -> bool:
        """Better by more than the margin."""
        return self.gain > self.margin

    @property
    def worse(self) -> bool:
        """Worse by more than the margin."""
        return -self.gain > self.margin


def compare(before: Evaluation, after: Evaluation, paired: Mapping[str, Figure] | None = None) -> dict[str, Comparison]:
    """The figures that both have. paired: their differences where both were measured side by side (paired.py); without, the
    two are taken to be independent. Raises ConfigError that names what differs where the specs do.
    """
    if before.spec.hash != after.spec.hash:
        differing = before.spec.differences(after.spec)
        found = "; ".join(f"{name}: {ours!r} against {theirs!r}" for name, (ours, theirs) in differing.items())
        raise ConfigError(
            f"results of different specs are not compared: {found}",
            field="spec",
            value=f"{before.spec.hash} against {after.spec.hash}",
            mend="evaluate both with one spec",
        )
    names = [name for name in before.figures if name in after.figures and name not in BESIDE]
    return {
        name: _comparison(name, before.figures[name], after.figures[name], (paired or {}).get(name)) for name in names
    }


def _comparison(name: str, before: Figure, after: Figure, paired: Figure | None) -> Comparison:
    change = after.value - before.value
    # every margin so far is 1.96 deviations
    margin = PROOF / Z * (paired.margin if paired else math.hypot(before.margin, after.margin))
    gain = change if _higher_is_better(name) else -change
    return Comparison(before, after, change, margin, gain, paired is not None)


def _higher_is_better(name: str) -> bool:
    return name in HIGHER_IS_BETTER or name.startswith(("caption_", "heldout_"))
