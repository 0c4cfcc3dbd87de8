"""What came of it, as tables for people."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from langevin.config.recipe import Recipe
from langevin.evaluation.comparison import compare
from langevin.evaluation.intervals import Figure
from langevin.evaluation.paired import paired_of
from langevin.evaluation.suite import Evaluation
from langevin.stages.outputs import Outputs, read_json

NAMES = {
    "fid": "FID, samples against test",
    "fid_floor": "FID floor, train against test",
    "fid_ratio": "FID / floor",
    "fid_half": "  of half of the images, both sets",
    "fid_three_quarters": "  of three quarters",
    "fid_infinity": "  of infinitely many, extrapolated",
    "kid": "KID",
    "inception_score": "inception score",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "authenticity": "authenticity, samples no copies of train",
    "authenticity_floor": "  of the test images",
    "fd_dinov2": "FD with DINOv2",
    "fd_dinov2_floor": "  floor, train against test",
    "recognised": "recognised as their class",
    "caption_count": "captions of the test images: number of objects right",
    "caption_background": "captions of the test images: background right",
    "caption_shape": "captions of the test images: shape right",
    "caption_colour": "captions of the test images: colour right",
    "caption_size": "captions of the test images: size right",
    "caption_both": "captions of the test images: shape and colour right",
    "heldout_count": "captions of pairs never seen: number of objects right",
    "heldout_background": "captions of pairs never seen: background right",
    "heldout_shape": "captions of pairs never seen: shape right",
    "heldout_colour": "captions of pairs never seen: colour right",
    "heldout_size": "captions of pairs never seen: size right",
    "heldout_both": "captions of pairs never seen: shape and colour right",
    "clip_score": "CLIP score, 0 to 100",
    "clip_score_floor": "  of the test images",
    "nll": "NLL, bits/dim",
    "nll_prior": "  prior",
    "nll_diffusion": "  diffusion",
    "nll_reconstruction": "  reconstruction",
    "nll_estimate": "  of these very images",
    "nll_importance": "NLL by weighted latents, bits/dim",
    "nll_parallel": "NLL of parallel sampling, bits/dim",
    "rfid": "rFID, test images coded and decoded",
    "psnr": "PSNR of the same, dB",
}


WAYS = {"stages": "its stages in turn", "autoregressive": "autoregression", "own": "the model's own way"}


COLUMNS = ("figure", "value", "95 % interval", "n", "champion before", "change, with 99 % interval")


def rows(evaluated: dict[str, Any]) -> list[tuple[str, ...]]:
    """A row of COLUMNS for everything that was measured. A change that is larger than its interval counts in a promotion."""
    ours = Evaluation.from_json(evaluated["evaluation"])
    before, changes = _beside(ours, evaluated["champion"])
    names = [name for name in NAMES if name in ours.figures] + [name for name in ours.figures if name not in NAMES]
    found = [(name, ours.figures[name]) for name in names]
    return [
        (NAMES.get(name, name), number(f.value), interval(f), str(f.n), before.get(name, "-"), changes.get(name, "-"))
        for name, f in found
    ]


def _beside(ours: Evaluation, champion: dict[str, Any] | None) -> tuple[dict[str, str], dict[str, str]]:
    """The champion's figures, and by how much ours differ."""
    if champion is None:
        return {}, {}
    theirs = Evaluation.from_json(champion["evaluation"])
    changes = compare(theirs, ours, paired_of(champion)).items()
    return (
        {name: number(figure.value) for name, figure in theirs.figures.items()},
        {name: f"{found.change:+.3g} ± {found.margin:.2g}" for name, found in changes},
    )


def number(value: float) -> str:
    return f"{value:.4g}"


def written(value: Any) -> str:
    """A setting's value as a recipe has it, lists without their brackets."""
    if isinstance(value, list | tuple):
        return ", ".join(map(written, value))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:g}"
    return "none" if value is None else str(value)


def interval(figure: Figure) -> str:
    return f"{number(figure.low)} to {number(figure.high)}"


def figures(evaluated: dict[str, Any]) -> str:
    """The metric table as text."""
    table = Table(*COLUMNS, box=None, pad_edge=False)
    for row in rows(evaluated):
        table.add_row(*row)
    return _text(table)


def summary(recipe: Recipe) -> str:
    """The closing table: what was trained, its metrics, the registered version, where to look next."""
    outputs = Outputs.of(recipe)
    evaluated, promoted = read_json(outputs.evaluation, "evaluate"), read_json(outputs.promotion, "promote")
    ours = Evaluation.from_json(evaluated["evaluation"])
    spec = ours.spec
    accuracy = "" if spec.extractor_accuracy is None else f", right on {spec.extractor_accuracy:.1%} of the test images"
    lines = {
        "trained": f"{recipe.name}: {recipe.model.method}, {evaluated['parameters']:,} parameters, "
        f"{evaluated['images']:,} images",
        "measured": f"{what_was_measured(ours)}; spec {spec.hash}",
        "extractor": f"{spec.extractor}{accuracy}",
        "registered": f"{promoted['model']} @{promoted['alias']}: {promoted['reason']}",
        **({"generated": _generated(outputs)} if "fid" in ours.figures else {}),  # a codec draws none
        "report": str(outputs.report / "index.html"),
        "next": f"make ui (MLflow), dvc metrics show, dvc plots show, langevin show {promoted['model']}",
    }
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, text in lines.items():
        table.add_row(name, text)
    return f"\n{figures(evaluated)}\n\n{_text(table)}"


def what_was_measured(ours: Evaluation) -> str:
    """Which images the figures are of: samples, or of a codec, which draws none, the test images once more."""
    spec = ours.spec
    if "fid" not in ours.figures:
        return f"the {spec.reference_n:,} test images coded and decoded"
    how = f", {sampled_by(spec.sampling)}" if spec.sampling else ""
    return f"{spec.generated_n:,} samples of seed {spec.seed}{how}"


def sampled_by(sampling: Mapping[str, Any]) -> str:
    """A spec's sampling in a few words."""
    steps = f" in {sampling['steps']} steps" if "steps" in sampling else ""
    guidance = f", guidance {sampling['guidance']:g}" if "guidance" in sampling else ""
    return f"{WAYS.get(sampling['sampler'], sampling['sampler'])}{steps}{guidance}"


def _generated(outputs: Outputs) -> str:
    found = read_json(outputs.generated / "manifest.json", "generate")
    return f"{found['samples']:,} images of {found['request']['model']} in {outputs.generated}"


def _text(table: Table) -> str:
    console = Console(file=io.StringIO(), width=160, highlight=False)
    console.print(table)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.rstrip("\n").splitlines())
