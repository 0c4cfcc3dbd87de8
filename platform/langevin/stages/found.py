"""What a search has found, as plain values for programs and as tables for people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from langevin.config.load_search import Loaded
from langevin.config.paths import home
from langevin.search.conductor import Conductor
from langevin.stages.candidates import Measured, Swept
from langevin.stages.lineages import segments


def found(loaded: Loaded, conductor: Conductor, swept: Swept) -> dict[str, Any]:
    """Every trial with its state and figures, the best setting, the front, and what it cost against all of it whole."""
    search, trials = loaded.search, conductor.journal.trials
    rows = [
        {"run": run, "knobs": trial.knobs, "images": trial.figures[-1]["images"] if trial.figures else 0,
         "state": _state(conductor, run), "figures": [_plain(one) for one in trial.figures],
         "copied_from": trial.copy and trial.copy.source, "copied_at": trial.copy and trial.copy.images}
        for run, trial in trials.items()
    ]  # fmt: skip
    whole = conductor.rungs[-1] * len(search.settings or range(search.trials or 0))
    spent = sum(map(conductor.trained, trials))
    candidates = len(swept.last) + len(swept.earlier)
    return {
        "search": search.name,
        "recipe": loaded.base.name,
        "objectives": list(search.objectives),
        "rungs": list(conductor.rungs),
        "trials": rows,
        "best": _best(swept.last[0], conductor) if swept.last else None,
        "front": [one.to_json() for one in swept.front(search.objectives)],
        "sampling": [one.to_json() for one in (*swept.last, *swept.earlier)],
        "images": {"trained": spent, "of_all_trials_whole": whole, "share": round(spent / whole, 4) if whole else None},
        "drawn": {"images": swept.drawn, "of_all_settings_whole": candidates * loaded.base.evaluate.images},
        "seconds": round(conductor.budget.elapsed, 1),
    }


def _state(conductor: Conductor, run: str) -> str:
    trial = conductor.journal.trials[run]
    return trial.stopped or ("complete" if trial.reached == len(conductor.rungs) else "out of budget")


def _best(best: Measured, conductor: Conductor) -> dict[str, Any]:
    checkpoint = best.candidate.checkpoint
    return best.to_json() | {
        "checkpoint": str(checkpoint.folder.relative_to(home())), "sha256": checkpoint.sha256, "images": checkpoint.images,
        "segments": segments(conductor, best.candidate.run),
    }  # fmt: skip


def _plain(figures: dict[str, float]) -> dict[str, float | None]:
    """As JSON may hold them: what diverged has none."""
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}


def lines(result: dict[str, Any]) -> str:
    """For people: the trials, the front, the best setting, and what it cost."""
    names = result["objectives"]
    shown = [f"{result['search']}: {len(result['trials'])} trainings of {result['recipe']}", ""]
    knobs = list(dict.fromkeys(name for row in result["trials"] for name in row["knobs"]))
    rows = sorted(result["trials"], key=lambda row: (-row["images"], _first(row, names)))
    shown += _table(
        [*(name.removeprefix("model.") for name in knobs), "images", *names, "state", "run"],
        [[*(row["knobs"].get(name, "") for name in knobs), f"{int(row['images']):,}",
          *(_number(row["figures"][-1][name]) if row["figures"] else "" for name in names), row["state"], row["run"]]
         for row in rows],
    )  # fmt: skip
    if result["front"]:
        settings = list(dict.fromkeys(name for one in result["front"] for name in one["sampling"]))
        shown += ["", "Pareto front" if len(names) > 1 else "best", ""]
        shown += _table(
            ["run", *settings, *names, "n"],
            [[one["run"], *(one["sampling"].get(name, "") for name in settings),
              *(_interval(one, name) for name in names), one["n"]] for one in result["front"]],
        )  # fmt: skip
    if (best := result["best"]) and len(best["segments"]) > 1:
        shown += ["", "how the best was trained: each from the state of the one before", ""]
        shown += _table(
            ["run", *(name.removeprefix("model.") for name in knobs), "to images"],
            [[one["run"], *(one["knobs"].get(name, "") for name in knobs), f"{int(one['images']):,}"]
             for one in best["segments"]],
        )  # fmt: skip
    spent, drawn = result["images"], result["drawn"]
    shown += ["", f"trained {spent['trained']:,} images, {spent['share'] or 0:.1%} of {spent['of_all_trials_whole']:,}; "
              f"drew {drawn['images']:,} of {drawn['of_all_settings_whole']:,}; {result['seconds']:,.0f} s"]  # fmt: skip
    if best:
        length = best["sampling"].get("ema_std")
        then = f", then `langevin ema` with --std {length}" if length else ""
        shown.append(f"best: {best['run']}; out/{result['search']}/best.yaml is its recipe{then}")
    return "\n".join(shown)


def _first(row: dict[str, Any], names: Sequence[str]) -> float:
    value = row["figures"][-1][names[0]] if row["figures"] else None
    return math.inf if value is None else value


def _interval(one: dict[str, Any], name: str) -> str:
    value = _number(one["figures"][name])
    return (
        f"{value} [{_number(one['interval'][0])}, {_number(one['interval'][1])}]"
        if name == "fid" and one["interval"]
        else value
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _table(head: list[str], rows: list[list[Any]]) -> list[str]:
    cells = [[str(cell) for cell in row] for row in rows]
    return [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {' | '.join(row)} |" for row in cells)]
