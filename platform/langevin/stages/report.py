"""Everything about one model on one page: index.html and its pictures as PNG files."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from langevin.config.recipe import Recipe
from langevin.protocols import Samples
from langevin.reporting.page import Report, Table, render
from langevin.stages.audited import audited, fid_by_number
from langevin.stages.comparisons import compared, made_of
from langevin.stages.jumps import jumps
from langevin.stages.pages import left
from langevin.stages.pictures import samples, training, way
from langevin.stages.reconstructions import between, enlarged, returned
from langevin.stages.subject import Part, Subject
from langevin.stages.summary import COLUMNS, number, rows, what_was_measured
from langevin.stages.swept import sweeps
from langevin.stages.traced import lineage

# In the page's order; each is None of a model that does not have it.
FIRST = (samples, enlarged, returned, between, way, made_of, compared, jumps)


def report(recipe: Recipe, path: Path) -> dict[str, Any]:
    """Leaves out/RECIPE/report/: index.html, complete in itself, and a PNG of every picture."""
    subject = Subject.of(recipe, path)
    made = [
        *(make(subject) for make in FIRST),
        *sweeps(subject),
        training(subject),
        audited(subject),
        _metrics(subject),
    ]
    parts = [part for part in made if part is not None]
    evaluated = subject.evaluated
    page = Report(
        title=recipe.name,
        subtitle=f"{recipe.model.method} on {subject.version.tags['langevin.dataset_name']}, "
        f"{evaluated['parameters']:,} parameters, {evaluated['images']:,} images seen",
        generated=datetime.now(UTC).isoformat(timespec="seconds"),
        headline=_headline(subject),
        sections=tuple(part.section for part in parts),
        lineage=_lineage(subject),
    )
    return {"page": str(left(render(page), parts, subject.outputs.report)), "model": subject.version.uri}


def _headline(subject: Subject) -> tuple[tuple[str, str, str], ...]:
    """What was measured of the model: not all have a likelihood, and only those that read are asked by texts."""
    f, promoted = subject.ours.figures, subject.promoted
    given = "" if "fid" not in f else ", given the text" if _reads(subject) else ", given the class"
    found = {
        "fid": lambda: ("FID", number(f["fid"].value), _floor(subject)),
        "nll": lambda: ("NLL", number(f["nll"].value), f"bits/dim{given}"),
        "caption_both": lambda: ("As asked", f"{f['caption_both'].value:.1%}", "of the objects, in shape and colour"),
        "recognised": lambda: ("Recognised", f"{f['recognised'].value:.1%}", "as their class, by an independent judge"),
        "rfid": lambda: ("rFID", number(f["rfid"].value), "test images coded and decoded"),
        "psnr": lambda: ("PSNR", number(f["psnr"].value), "dB, of the same, mean over images"),
    }
    measured = [said() for name, said in found.items() if name in f]
    return (*measured, ("Registered", promoted["model"].removeprefix("models:/"), f"@{promoted['alias']}"))


def _reads(subject: Subject) -> bool:
    return subject.request is not None and subject.request.prompts is not None


def _floor(subject: Subject) -> str:
    figures = subject.ours.figures
    return f"floor {number(figures['fid_floor'].value)}, ratio {figures['fid_ratio'].value:.2f}"


def _metrics(subject: Subject) -> Part:
    spec, evaluated = subject.ours.spec, dict(subject.evaluated)
    accuracy = "" if spec.extractor_accuracy is None else f", {spec.extractor_accuracy:.1%} right on test"
    against = f" against the {spec.reference_n:,} test images" if "fid" in subject.ours.figures else ""
    note = (
        f"Spec {spec.hash}: {what_was_measured(subject.ours)}{against}; "
        f"extractor {spec.extractor} (sha256 {spec.extractor_sha256[:12]}{accuracy}); judge {spec.judge}, "
        f"{evaluated['judge_accuracy']:.1%} right on test; formulas {spec.formulas}."
    )
    picture = fid_by_number(subject)
    return Part("Metrics", "", {"fid-by-n": picture} if picture else {}, Table(COLUMNS, tuple(rows(evaluated)), note))


def _lineage(subject: Subject) -> tuple[tuple[str, str], ...]:
    sampling = json.dumps(subject.recipe.sample.plain()) if isinstance(subject.model, Samples) else None
    return lineage(subject.version, sampling, subject.ours.spec.hash)
