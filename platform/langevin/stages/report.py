"""Everything about one model on one page: index.html and its pictures as PNG files."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from langevin.config.load import restore
from langevin.config.paths import home
from langevin.config.recipe import Recipe
from langevin.evaluation.suite import Evaluation
from langevin.generation.writer import read_images
from langevin.protocols import Samples
from langevin.randomness import Keys
from langevin.reporting.figures import class_grid, curve, trajectory
from langevin.reporting.page import Picture, Report, Section, Table, render
from langevin.stages.outputs import Outputs, read_json, write_text
from langevin.stages.summary import number, rows
from langevin.tracking.registry import ModelVersion, Registry
from langevin.tracking.store import tracking_uri
from langevin.training import checkpoint as checkpoints

PER_CLASS = 12
STATES = 9  # columns of the way from noise to image
TRAJECTORY_SEED = 3


def report(recipe: Recipe, path: Path) -> dict[str, Any]:
    """Leaves out/RECIPE/report/: index.html, complete in itself, and a PNG of every picture."""
    outputs = Outputs.of(recipe)
    evaluated, promoted = read_json(outputs.evaluation, "evaluate"), read_json(outputs.promotion, "promote")
    manifest = read_json(outputs.generated / "manifest.json", "generate")
    version = Registry(tracking_uri(home())).resolve(manifest["request"]["model"])
    ours = Evaluation.from_json(evaluated["evaluation"])
    pictures = {
        "samples": _samples(outputs.generated, manifest),
        "trajectory": _trajectory(recipe, version, manifest["request"]["classes"]),
        "loss": _loss(outputs.history),
        "fid": _fid(outputs.fid_curve, ours, min(recipe.evaluate.curve_images, recipe.evaluate.images)),
    }
    spec = ours.spec
    page = Report(
        title=recipe.name,
        subtitle=f"{recipe.model.method} on {version.tags['langevin.dataset_name']}, {evaluated['parameters']:,} parameters, "
        f"{evaluated['images']:,} images seen",
        generated=datetime.now(UTC).isoformat(timespec="seconds"),
        headline=_headline(ours, promoted),
        sections=(
            Section("Samples", f"{manifest['samples']:,} images generated from {version.uri}.", (pictures["samples"],)),
            Section("From noise to image", "", (pictures["trajectory"],)),
            Section("Training", "", (pictures["loss"], pictures["fid"])),
            Section("Metrics", "", (), _table(evaluated, ours)),
        ),
        lineage=_lineage(version, manifest, spec.hash, recipe, path),
    )
    outputs.report.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        (outputs.report / f"{name}.png").write_bytes(picture.png)
    index = outputs.report / "index.html"
    write_text(index, render(page))
    return {"page": str(index), "model": version.uri}


def _headline(ours: Evaluation, promoted: dict[str, Any]) -> tuple[tuple[str, str, str], ...]:
    f = ours.figures
    return (
        ("FID", number(f["fid"].value), f"floor {number(f['fid_floor'].value)}, ratio {f['fid_ratio'].value:.2f}"),
        ("NLL", number(f["nll"].value), "bits/dim, given the class"),
        ("Recognised", f"{f['recognised'].value:.1%}", "as their class, by an independent judge"),
        ("Registered", promoted["model"].removeprefix("models:/"), f"@{promoted['alias']}"),
    )


def _samples(folder: Path, manifest: dict[str, Any]) -> Picture:
    images, labels = read_images(folder)
    classes = manifest["request"]["classes"]
    return Picture.drawn(
        "Samples by class",
        f"A grid of generated images, one row for each of the classes {', '.join(classes)}",
        lambda theme: class_grid(images, labels, classes, PER_CLASS, theme),
        f"The first {PER_CLASS} of each class, not selected.",
        wide=True,
    )


def _trajectory(recipe: Recipe, version: ModelVersion, classes: list[str]) -> Picture:
    model: Samples = restore(checkpoints.read(Path(version.source)), recipe.sample)  # type: ignore[assignment]
    labels = torch.arange(len(classes))
    with torch.no_grad():
        states = [state.numpy() for state in model.walk(Keys.range(TRAJECTORY_SEED, 0, len(labels)), labels)]
    chosen = np.linspace(0, len(states) - 1, min(STATES, len(states))).round().astype(int)
    shown: list[NDArray[np.floating]] = [states[index] for index in chosen]
    captions = [f"step {index}" for index in chosen]
    return Picture.drawn(
        "From noise to image",
        "Each row is one sample, from pure noise on the left to the finished image on the right",
        lambda theme: trajectory(shown, captions, theme),
        f"{recipe.sample.sampler}, {recipe.sample.steps} steps, one sample of each class.",
        wide=True,
    )


def _loss(path: Path) -> Picture:
    table = _columns(path)
    series = {"training": _points(table, "loss"), "validation": _points(table, "validation_loss")}
    return Picture.drawn(
        "Loss over images seen",
        "Training and validation loss against images seen",
        lambda theme: curve(series, "images seen", "loss", logy=True, theme=theme),
        "Mean squared error of the noise. Validation: averaged weights, the same noise at every reading.",
    )


def _fid(path: Path, ours: Evaluation, count: int) -> Picture:
    series = {f"FID at {count} samples": _points(_columns(path), "fid")}
    floor = {"floor (train against test)": ours.figures["fid_floor"].value}
    return Picture.drawn(
        "FID over images seen",
        "FID of the kept checkpoints against images seen, with the floor as a dashed line",
        lambda theme: curve(series, "images seen", "FID", hline=floor, theme=theme),
        f"Fewer samples read higher: the table's FID is of {ours.spec.generated_n:,}.",
    )


def _table(evaluated: dict[str, Any], ours: Evaluation) -> Table:
    spec = ours.spec
    accuracy = "" if spec.extractor_accuracy is None else f", {spec.extractor_accuracy:.1%} right on test"
    note = (
        f"Spec {spec.hash}: {spec.generated_n:,} samples of seed {spec.seed} against the {spec.reference_n} test images; "
        f"extractor {spec.extractor} (sha256 {spec.extractor_sha256[:12]}{accuracy}); judge {spec.judge}, "
        f"{evaluated['judge_accuracy']:.1%} right on test; formulas {spec.formulas}."
    )
    return Table(("figure", "value", "95 % interval", "n", "champion before"), tuple(rows(evaluated)), note)


def _lineage(
    version: ModelVersion, manifest: dict[str, Any], spec: str, recipe: Recipe, path: Path
) -> tuple[tuple[str, str], ...]:
    tags = {name.removeprefix("langevin."): value for name, value in version.tags.items()}
    changed = " (with uncommitted changes)" if tags["git_dirty"] == "true" else ""
    return (
        ("code", tags["git_commit"] + changed),
        ("data set", f"{tags['dataset_name']} {tags['dataset_digest']}"),
        ("recipe", f"{path.name}, training hash {tags['recipe_hash']}"),
        ("sampling", json.dumps(recipe.sample.plain())),
        ("run", f"{tags['run_name']} (MLflow {tags.get('run_id', 'not delivered')})"),
        ("checkpoint", f"{tags['images']} images, sha256 {tags['checkpoint_sha256']}"),
        ("metric spec", spec),
        ("registered", version.uri),
        ("generated", f"{manifest['samples']:,} images, digest {manifest['digest']}"),
    )


def _columns(path: Path) -> dict[str, list[str]]:
    with path.open(newline="") as file:
        rows_of = list(csv.DictReader(file))
    return {name: [row[name] for row in rows_of] for name in (rows_of[0] if rows_of else ())}


def _points(table: dict[str, list[str]], name: str) -> tuple[list[float], list[float]]:
    pairs = [(float(x), float(y)) for x, y in zip(table.get("images", []), table.get(name, []), strict=True) if y]
    return [x for x, _ in pairs], [y for _, y in pairs]
