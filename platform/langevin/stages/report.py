"""Everything about one model on one page: index.html and its pictures as PNG files."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from langevin.config.load import restore
from langevin.config.paths import home
from langevin.config.recipe import Recipe
from langevin.evaluation.suite import Evaluation
from langevin.generation.plan import Request
from langevin.reporting.page import Report, Section, Table, render
from langevin.stages import pictures as drawn
from langevin.stages.outputs import Outputs, read_json, write_text
from langevin.stages.summary import number, rows
from langevin.tracking.registry import ModelVersion, Registry
from langevin.tracking.store import tracking_uri
from langevin.training import checkpoint as checkpoints


def report(recipe: Recipe, path: Path) -> dict[str, Any]:
    """Leaves out/RECIPE/report/: index.html, complete in itself, and a PNG of every picture."""
    outputs = Outputs.of(recipe)
    evaluated, promoted = read_json(outputs.evaluation, "evaluate"), read_json(outputs.promotion, "promote")
    manifest = read_json(outputs.generated / "manifest.json", "generate")
    request = Request.of(manifest["request"])
    version = Registry(tracking_uri(home())).resolve(request.model)
    ours = Evaluation.from_json(evaluated["evaluation"])
    pictures = {
        "samples": drawn.samples(outputs.generated, request),
        "trajectory": drawn.way(restore(checkpoints.read(Path(version.source)), recipe.sample), recipe, request),
        "loss": drawn.loss(outputs.history),
        "fid": drawn.fid(outputs.fid_curve, ours, min(recipe.evaluate.curve_images, recipe.evaluate.images)),
    }
    spec = ours.spec
    page = Report(
        title=recipe.name,
        subtitle=f"{recipe.model.method} on {version.tags['langevin.dataset_name']}, {evaluated['parameters']:,} parameters, "
        f"{evaluated['images']:,} images seen",
        generated=datetime.now(UTC).isoformat(timespec="seconds"),
        headline=_headline(ours, promoted, request),
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


def _headline(ours: Evaluation, promoted: dict[str, Any], request: Request) -> tuple[tuple[str, str, str], ...]:
    """What was measured of the model: not all have a likelihood, and only those that read are asked by texts."""
    f, given = ours.figures, "class" if request.prompts is None else "text"
    found = {
        "fid": lambda: ("FID", number(f["fid"].value), _floor(ours)),
        "nll": lambda: ("NLL", number(f["nll"].value), f"bits/dim, given the {given}"),
        "caption_both": lambda: ("As asked", f"{f['caption_both'].value:.1%}", "of the objects, in shape and colour"),
        "recognised": lambda: ("Recognised", f"{f['recognised'].value:.1%}", "as their class, by an independent judge"),
    }
    measured = [said() for name, said in found.items() if name in f]
    return (*measured, ("Registered", promoted["model"].removeprefix("models:/"), f"@{promoted['alias']}"))


def _floor(ours: Evaluation) -> str:
    return f"floor {number(ours.figures['fid_floor'].value)}, ratio {ours.figures['fid_ratio'].value:.2f}"


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
