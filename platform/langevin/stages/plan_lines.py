"""A plan for people: one fact a line, three digits each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langevin.stages.plan import Machine


def lines(found: dict[str, Any]) -> str:
    """A plan for people, one fact a line."""
    stages = [f"{lines(stage)}\n" for stage in found.get("stages", ())]
    parts: dict[str, Callable[[dict[str, Any]], str]] = {
        "machine": _machine_line,
        "parameters": _model_line,
        "operations": lambda f: (
            f"{_si(f['operations']['forward'])}FLOP an image forward, "
            f"{_si(f['operations']['training'])}FLOP forward and backward"
        ),
        "memory": _memory_line,
        "training": _training_line,
        "latents": lambda f: (
            f"by {f['latents']['codec']}, once: {_si(f['latents']['operations'])}FLOP an image, "
            f"{_hours(f['latents']['encoding'])} for a million"
        ),
        "sampling": _sampling_line,
    }
    text = "\n".join(f"  {name:<11}{line(found)}" for name, line in parts.items() if name in found)
    return "\n".join([*stages, f"{found['recipe']} ({found['method']}), {found['image_shape']}", text])


def _machine_line(found: dict[str, Any]) -> str:
    machine = Machine(**found["machine"])
    return (f"{machine.gpus} x {machine.kind} at {machine.utilisation:.0%} of its {machine.precision} peak, "
            f"{_si(machine.rate)}FLOP/s together")  # fmt: skip


def _model_line(found: dict[str, Any]) -> str:
    frozen = f", and {found['frozen_parameters']:,} frozen" if found.get("frozen_parameters") else ""
    return f"{found['parameters']:,}{frozen}"


def _memory_line(found: dict[str, Any]) -> str:
    held = found["memory"]
    parts = ", ".join(
        f"{name} {_si(held[name])}B" for name in ("weights", "gradients", "moments", "averages", "activations")
    )
    return f"{_si(held['total'])}B a worker of {_si(held['of'])}B{_room(held)} ({parts})"


def _room(held: dict[str, Any]) -> str:
    if held["total"] < held["of"]:
        return ""
    fewest = held["fewest_gpus"]
    return f", WHICH IS TOO MUCH: take {fewest:,} GPUs" if fewest else ", WHICH IS TOO MUCH for any number of GPUs"


def _training_line(found: dict[str, Any]) -> str:
    trained = found["training"]
    seen = f"{trained['images']:,} images at {_count(trained['images_per_second'])}/s: " if "images" in trained else ""
    return f"{seen}{_hours(trained)}"


def _sampling_line(found: dict[str, Any]) -> str:
    drawn = found["sampling"]
    if drawn is None:
        return "as many network calls as the solver's tolerance asks for"
    return (f"{drawn['calls']:,} network calls, {_si(drawn['operations'])}FLOP an image; {drawn['images']:,} images at "
            f"{_count(drawn['images_per_second'])}/s: {_hours(drawn)}")  # fmt: skip


def _hours(priced: dict[str, Any]) -> str:
    value = priced["hours"]
    return (
        f"{_count(value)} h"
        if value >= 1
        else f"{_count(60 * value)} min"
        if value >= 1 / 60
        else f"{_count(3600 * value)} s"
    )


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _si(value: float) -> str:
    """Three digits and the prefix of a thousand's power."""
    power = 0
    while value >= 999.5 and power < 6:
        value, power = value / 1000, power + 1
    return f"{value:.3g} {['', 'k', 'M', 'G', 'T', 'P', 'E'][power]}"
