"""The part of a page about models that choose their network calls: what each step loses, and what fewer calls cost."""

from __future__ import annotations

import math
from typing import Any

from langevin.protocols import Jumps
from langevin.reporting.figures import Scale, curve
from langevin.reporting.page import Picture
from langevin.stages.subject import Part, Subject
from langevin.stages.summary import number


def jumps(subject: Subject) -> Part | None:
    """The loss of every step, and the bound against the number of network calls by the best policy of each."""
    if not isinstance(subject.model, Jumps):
        return None
    return Part("Steps and network calls", "", {"steps": _losses(subject), "calls": _calls(subject)})


def _losses(subject: Subject) -> Picture:
    """A curve a stage, of those in which digits are generated one after the other."""
    model: Any = subject.model
    losses, stages = model.step_losses.known() / math.log(2), model.step_losses.stages
    parts = losses.reshape(stages, -1).tolist()
    names = ["loss"] if stages == 1 else [f"digit {number}" for number in range(1, stages + 1)]
    series = {name: (list(range(len(part))), part) for name, part in zip(names, parts, strict=True)}
    each = "value" if stages == 1 else "digit"
    return Picture.drawn(
        "What each step loses",
        "Bits for one more value against how many are known already",
        lambda theme: curve(series, "values known", f"bits a {each}", theme=theme),
        f"For one more {each} of an image, given those that are known, in an order drawn by chance; as training met them lately.",
    )


def _calls(subject: Subject) -> Picture:
    model: Any = subject.model
    count, stages, chosen = model.step_losses.count, model.step_losses.stages, len(model.starts())
    unit = math.log(2) * math.prod(subject.said["data"]["shape"])

    def bound(calls: int) -> float:
        return float(model.policy(calls)[1]) / unit

    doubled = [2**power for power in range(count.bit_length()) if stages <= 2**power < count]
    budgets = sorted({stages, *doubled, count})
    series = {
        "by the best steps": (budgets, [bound(calls) for calls in budgets]),
        f"{chosen} calls, as it is sampled": ([chosen], [bound(chosen)]),
    }
    scale = Scale(log=True, ticks={float(calls): str(calls) for calls in budgets})
    return Picture.drawn(
        "Likelihood for fewer network calls",
        "The bound in bits a dimension against the network calls of a sample, with the chosen number marked",
        lambda theme: curve(series, "network calls a sample", "bound, bits/dim", scale=scale, theme=theme),
        "The bound that the steps' losses promise where several values are drawn in one call. The steps are chosen by these "
        f"very estimates, so between the ends it is a little too good.{_measured(subject, chosen)}",
    )


def _measured(subject: Subject, chosen: int) -> str:
    figures = subject.ours.figures
    if "nll" not in figures or "nll_parallel" not in figures:
        return ""
    return (f" Measured on the test images: {number(figures['nll_parallel'].value)} at {chosen} calls, "
            f"{number(figures['nll'].value)} one value at a time.")  # fmt: skip
