"""Recipe -> trained checkpoint, on the embedded Ray or on a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from langevin.cluster.session import cpus, enough
from langevin.cluster.submit import is_job_server, submit
from langevin.cluster.train import train as train_on
from langevin.cluster.training import Training
from langevin.config.load import build, description
from langevin.config.paths import home, within_home
from langevin.config.recipe import Recipe
from langevin.config.trained import codec_of, latents_of, part_hashes, parts_of
from langevin.data.manifest import Manifest
from langevin.data.reader import Reader
from langevin.errors import CheckpointError
from langevin.protocols import Trainable
from langevin.stages.curve import BesideTraining
from langevin.stages.outputs import Outputs, write_json, write_text
from langevin.stages.progress import Stage, say
from langevin.tracking.spool import Spool
from langevin.tracking.store import check_access
from langevin.training import checkpoint as checkpoints
from langevin.training.checkpoint import Checkpoint

CURVES = {"loss": "train/loss", "validation_loss": "validation/loss", "images_per_second": "train/images_per_second"}


def train(recipe: Recipe, path: Path, workers: int, address: str | None) -> dict[str, Any]:
    """Trains, or goes on with a training that was interrupted; leaves out/RECIPE/training.json and history.csv."""
    root = within_home(recipe.training_root)
    manifest = latents_of(recipe) if recipe.latents else Manifest.load(root)
    for split in ("train", "validation"):  # damaged shards are found here, before any worker starts
        Reader(root, split, recipe.seed, recipe.train.batch)
    if recipe.latents:
        codec_of(recipe)
    if address is None:
        enough(workers, cpus(), "this machine", path, "train.workers")
    training = Training.of(recipe, path.parent)
    check_access(training.tracking_uri)
    model = build(recipe, Manifest.load(within_home(recipe.data.root)))  # bad combinations are found here, too
    if not isinstance(model, Trainable):
        return _leave(recipe, training, manifest, _put_together(recipe, training, manifest, model))
    companion = BesideTraining.of(recipe, training)
    before = checkpoints.latest(training.checkpoints)
    if before is not None:
        _check(before, recipe, manifest)
    if before is not None and before.images >= recipe.train.images:
        say(f"train: {training.name} is complete, {before.images:,} images")
    elif before is not None:
        say(f"train: {training.name} goes on from {before.images:,} images")
    if address is not None and is_job_server(address):
        submit("train", path, address, training.name, ("--workers", str(workers)))
        last = checkpoints.latest(training.checkpoints)
        assert last is not None  # the job succeeded
    else:
        with Stage("train", recipe.train.images) as stage:
            last = train_on(training, address, workers, lambda at: _show(stage, at), companion=companion)
    return _leave(recipe, training, manifest, last)


def _leave(recipe: Recipe, training: Training, manifest: Manifest, last: Checkpoint) -> dict[str, Any]:
    """The small files that later stages read."""
    result = {
        "run": training.name,
        "checkpoint": str(last.folder.relative_to(home())),
        "sha256": last.sha256,
        "images": last.images,
        "dataset_digest": manifest.digest,
        "recipe_hash": recipe.training_hash(manifest.digest, part_hashes(recipe)),
    }
    outputs = Outputs.of(recipe)
    _write_history(outputs.history, training, recipe)
    write_json(outputs.training, result)
    return result


def _put_together(recipe: Recipe, training: Training, manifest: Manifest, model: nn.Module) -> Checkpoint:
    """The checkpoint of a model whose parts are trained already: their weights, at the images that all of them saw."""
    seen = sum(part.images for part in parts_of(recipe))
    folder = training.checkpoints / f"{seen:012d}"
    return checkpoints.save_average(folder, model.state_dict(), seen, description(recipe, manifest))


def _check(checkpoint: Checkpoint, recipe: Recipe, manifest: Manifest) -> None:
    """CheckpointError for one that another training left here: a complete one would pass for ours unread."""
    found, ours = checkpoint.model.get("training"), recipe.training_hash(manifest.digest, part_hashes(recipe))
    if found != ours:
        raise CheckpointError(
            f"is not of this recipe's training ({ours}): it may be of another architecture",
            file=checkpoint.folder, field="training", value=found,
            mend="remove this folder and train again, or train under another name",
        )  # fmt: skip


def _show(stage: Stage, at: dict[str, Any]) -> None:
    stage.at(at["images"], loss=at["loss"], per_second=at["images_per_second"])


def _write_history(path: Path, training: Training, recipe: Recipe) -> None:
    """The curves as a table for `dvc plots`, from the run's own journal: MLflow may be away and get them later."""
    points = _recorded(Spool(Path(training.folder) / "spool", {"experiment": recipe.name, "name": training.name}))
    rows = [",".join(["images", *CURVES])]
    for images in sorted(set().union(*points.values())):
        rows.append(",".join([str(images), *(_cell(points[key].get(images)) for key in CURVES.values())]))
    write_text(path, "\n".join(rows) + "\n")


def _recorded(spool: Spool) -> dict[str, dict[int, float]]:
    """The curves' points, by images. A step that was reported again after a kill keeps its first value, as in MLflow."""
    points: dict[str, dict[int, float]] = {key: {} for key in CURVES.values()}
    offset = 0
    while entries := spool.read(offset):
        offset = entries[-1].end
        for record in (entry.record for entry in entries if entry.record and entry.record["kind"] == "metrics"):
            for key in points.keys() & record["values"].keys():
                points[key].setdefault(record["step"], record["values"][key])
    spool.close()
    return points


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"
