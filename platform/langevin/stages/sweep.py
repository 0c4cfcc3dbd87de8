"""One setting of the sampling at several values, on a checkpoint that is trained: nothing is trained again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from langevin.cluster.crew import crew
from langevin.config.checks import check_sampling
from langevin.config.paths import home
from langevin.config.recipe import Recipe
from langevin.config.sampling import Sample
from langevin.errors import ConfigError
from langevin.evaluation.intervals import Figure
from langevin.evaluation.suite import Evaluation, evaluate_samples
from langevin.protocols import Samples
from langevin.stages.evaluator import Evaluator, network_calls
from langevin.stages.outputs import Outputs, read_json, write_json, write_text
from langevin.stages.progress import Stage
from langevin.training import checkpoint as checkpoints
from langevin.training.checkpoint import Checkpoint

SHOWN = ("fid", "precision", "recall", "recognised", "caption_both", "heldout_shape", "heldout_colour", "heldout_both")


def sweep(recipe: Recipe, path: Path, field: str, values: list[str], images: int | None) -> dict[str, Any]:
    """Evaluates the trained checkpoint with sample.FIELD at each of the values, written as in a recipe.

    All draw the same noise (common random numbers), so figures differ by the setting alone. Leaves
    out/RECIPE/sweeps/FIELD.json and .csv; a value that stands there for this checkpoint and spec is not drawn again.
    ConfigError: a field that sampling does not have, or a value that this model cannot be sampled with.
    """
    settings = [_setting(recipe, path, field, value) for value in values]
    if images is not None:
        recipe = recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update={"images": images})})
    torch.set_num_threads(1)  # what is drawn side by side takes no thread from its neighbour
    trained = read_json(Outputs.of(recipe).training, "train")
    checkpoint = checkpoints.read(home() / trained["checkpoint"])
    with crew(None, recipe.evaluate.workers) as hands:
        rows = _swept(recipe, path, field, settings, checkpoint, Evaluator(recipe, hands))
    write_text(Outputs.of(recipe).sweep(field).with_suffix(".csv"), _csv(field, rows))
    return {"recipe": recipe.name, "field": field, "rows": [_plain(row) for row in rows]}


def _swept(
    recipe: Recipe, path: Path, field: str, settings: list[tuple[Any, Sample]], checkpoint: Checkpoint, evaluator: Evaluator
) -> list[dict[str, Any]]:  # fmt: skip
    """The rows of the settings, each kept on disk as soon as it is there."""
    place = Outputs.of(recipe).sweep(field)
    known = {row["spec"]: row for row in _rows(place) if row["sha256"] == checkpoint.sha256}
    found = []
    with Stage("sweep", recipe.evaluate.images * len(settings)) as stage:
        for done, (value, sample) in enumerate(settings):
            one = evaluator.sampled_by(sample)
            if one.spec.hash not in known:
                model = one.model(checkpoint)
                if not isinstance(model, Samples):
                    raise ConfigError("draws no samples", file=path, field="model.method", value=recipe.model.method,
                                      mend="sweep a model of images or of latents")  # fmt: skip
                measured = _measured(one, model, stage, done * recipe.evaluate.images)
                known[one.spec.hash] = {"value": value, "spec": one.spec.hash, "sha256": checkpoint.sha256,
                                        "evaluation": measured.to_json()}  # fmt: skip
                write_json(place, {"field": field, "rows": list(known.values())})
            found.append(known[one.spec.hash])
    return found


def markdown(swept: dict[str, Any]) -> str:
    """The rows as a table, each figure with its interval."""
    rows = swept["rows"]
    names = [name for name in SHOWN if name in rows[0]]
    lines = [f"| {swept['field']} | calls | " + " | ".join(names) + " |", "|---" * (2 + len(names)) + "|"]
    for row in rows:
        cells = [f"{row[name]['value']:.3f} [{row[name]['low']:.3f}, {row[name]['high']:.3f}]" for name in names]
        lines.append(f"| {row['value']} | {row['network_calls']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _setting(recipe: Recipe, path: Path, field: str, value: str) -> tuple[Any, Sample]:
    if field not in Sample.model_fields:
        raise ConfigError("is no setting of the sampling", file=path, field=field,
                          mend=f"choose from {', '.join(Sample.model_fields)}")  # fmt: skip
    try:
        given = json.loads(value)
    except ValueError:
        given = value
    try:
        sample = Sample.model_validate_json(json.dumps(recipe.sample.plain() | {field: given}))
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(message[:1].lower() + message[1:], file=path, field=f"sample.{field}", value=value) from None
    check_sampling(recipe.model, sample, recipe.bound, path, latent=recipe.latents is not None)
    return given, sample


def _measured(evaluator: Evaluator, model: Any, stage: Stage, before: int) -> Evaluation:
    """What depends on the samples alone: no likelihood, which no setting of the sampling moves."""
    images = evaluator.images(model, evaluator.recipe.evaluate.images, stage, before)
    labels = evaluator.labels[: len(images)]
    figures = evaluate_samples(
        images, labels, evaluator.test, evaluator.train, evaluator.extractor, evaluator.judge, evaluator.recipe.evaluate.seed
    ) | evaluator.captions(model, images, stage)  # fmt: skip
    return Evaluation(evaluator.spec, figures, network_calls=network_calls(model, evaluator.asked[:1], evaluator.crew))


def _rows(place: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(place.read_text())["rows"] if place.is_file() else []
    return rows


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    found = Evaluation.from_json(row["evaluation"])
    figures = {name: _figure(one) for name, one in found.figures.items()}
    return {"value": row["value"], "spec": row["spec"], "network_calls": found.network_calls, **figures}


def _figure(one: Figure) -> dict[str, float]:
    return {"value": one.value, "low": one.low, "high": one.high, "n": one.n}


def _csv(field: str, found: list[dict[str, Any]]) -> str:
    rows = [_plain(row) for row in found]
    names = [name for name in SHOWN if name in rows[0]]
    lines = [",".join([field, *names])]
    lines += [",".join([_cell(row["value"]), *(f"{row[name]['value']:.6g}" for name in names)]) for row in rows]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
