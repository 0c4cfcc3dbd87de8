"""Checkpoint -> figures: FID and its kin, recognition, NLL; each with n, seed, spec and an interval."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from langevin.cluster.crew import crew
from langevin.cluster.submit import is_job_server, submit
from langevin.config.paths import home, run_folder, within_home
from langevin.config.recipe import Recipe, digest
from langevin.data.manifest import Manifest
from langevin.data.version import version_of
from langevin.errors import RegistryError
from langevin.evaluation.intervals import Figure
from langevin.evaluation.paired import differences
from langevin.evaluation.suite import Evaluation, plain
from langevin.reporting.sheets import contact_sheet
from langevin.stages.curve import Curve, prefix
from langevin.stages.evaluator import Evaluator
from langevin.stages.outputs import Outputs, read_json, write_json, write_text
from langevin.stages.progress import Stage
from langevin.tracking.registry import ModelVersion, Registry
from langevin.tracking.runs import Tracker
from langevin.tracking.store import tracking_uri
from langevin.training import checkpoint as checkpoints
from langevin.training.checkpoint import Checkpoint

SHEET = 100  # samples on the contact sheet
ENDS = {"": "value", ".low": "low", ".high": "high"}


def evaluate(recipe: Recipe, path: Path, workers: int, address: str | None) -> dict[str, Any]:
    """Evaluates the trained checkpoint, FID at every kept one, and the champion on the same spec, where there is another.

    Leaves out/RECIPE/evaluation.json, metrics.json and fid.csv; the figures land in the training's MLflow run. On the CPU
    they are the same, to the bit, by any number of workers; 0: threads of this process.
    """
    outputs = Outputs.of(recipe)
    trained = read_json(outputs.training, "train")
    if address is not None and is_job_server(address):
        asked = {"weights": trained["sha256"], "recipe": recipe.plain(), "home": str(home())}
        submit("evaluate", path, address, f"{recipe.name}-{digest(asked)}", ("--workers", str(workers)))
        return read_json(outputs.evaluation, "evaluate")
    torch.set_num_threads(1)  # what is drawn side by side takes no thread from its neighbour
    with crew(address, workers) as hands:
        return _evaluate(recipe, trained, outputs, Evaluator(recipe, hands))


def _evaluate(recipe: Recipe, trained: dict[str, Any], outputs: Outputs, evaluator: Evaluator) -> dict[str, Any]:
    run = run_folder(trained["run"])
    last = checkpoints.read(home() / trained["checkpoint"])
    earlier = [one for one in checkpoints.every(run / "checkpoints") if one.images < last.images]
    champion = _champion(recipe, trained["sha256"])
    section = recipe.evaluate
    count = section.images
    points = Curve.of(recipe, run, evaluator.spec)
    with Stage("evaluate", count * (2 if champion else 1) + points.count * len(earlier)) as stage:
        model = evaluator.model(last)
        samples = evaluator.images(model, count, stage)
        ours = evaluator.measure(model, samples, stage)
        # beside the training, checkpoints were evaluated that are gone
        curve, done = {images: value for images, value in points.points().items() if images < last.images}, count
        for one in earlier:
            curve[one.images] = points.fid(one, evaluator, stage, done)
            done += points.count
        known = points.known(last)
        curve[last.images] = evaluator.fid(samples[: points.count]) if known is None else known
        theirs = _measure_champion(champion, evaluator, stage, done) if champion else None
    parameters = sum(parameter.numel() for parameter in model.parameters())
    result = {
        "run": trained["run"],
        "sha256": trained["sha256"],
        "images": last.images,
        "parameters": parameters,
        "judge_accuracy": evaluator.judge.accuracy(evaluator.test.images, evaluator.test.labels),  # type: ignore[arg-type]
        "evaluation": ours.to_json(),
        "champion": champion and theirs and {"model": champion.uri, **_beside(theirs, ours)},
    }
    write_json(outputs.evaluation, result)
    write_json(outputs.metrics, _metrics(ours, theirs))
    write_text(
        outputs.fid_curve,
        "images,fid\n" + "".join(f"{images},{value:.6f}\n" for images, value in sorted(curve.items())),
    )
    _track(recipe, evaluator.manifest, trained, ours, [*earlier, last], curve, samples)
    return result


def _champion(recipe: Recipe, sha256: str) -> ModelVersion | None:
    """The registered champion, unless there is none or it is the very checkpoint that is evaluated."""
    try:
        found = Registry(tracking_uri(home())).resolve(f"models:/{recipe.name}@champion")
    except RegistryError:
        return None
    return None if found.tags.get("langevin.checkpoint_sha256") == sha256 else found


def _measure_champion(champion: ModelVersion, evaluator: Evaluator, stage: Stage, before: int) -> Evaluation:
    model = evaluator.model(checkpoints.read(Path(champion.source)))
    return evaluator.measure(model, evaluator.images(model, len(evaluator.labels), stage, before), stage)


def _beside(theirs: Evaluation, ours: Evaluation) -> dict[str, Any]:
    """The champion's figures, and by how much ours differ, with intervals in which what both share cancels."""
    apart = {name: plain(figure.plain()) for name, figure in differences(theirs.figures, ours.figures).items()}
    return {"evaluation": theirs.to_json(), "differences": apart}


def _metrics(ours: Evaluation, theirs: Evaluation | None) -> dict[str, Any]:
    """For `dvc metrics`: value, interval and n of every figure, and the champion's values beside them."""
    found: dict[str, Any] = {name: _plain(figure) for name, figure in ours.figures.items()}
    found["spec"] = ours.spec.hash
    if theirs:
        found["champion"] = {name: figure.value for name, figure in theirs.figures.items()}
    return found


def _plain(figure: Figure) -> dict[str, Any]:
    values: dict[str, Any] = plain(figure.plain())
    del values["unit"]
    return values


def _track(
    recipe: Recipe, manifest: Manifest, trained: dict[str, Any], ours: Evaluation, kept: list[Checkpoint],
    curve: dict[int, float], samples: Tensor,
) -> None:  # fmt: skip
    last = kept[-1]
    run, folder = trained["run"], run_folder(trained["run"])  # the checkpoint's own, though the code has changed since
    under = prefix(folder, ours.spec.hash)
    if "ema_std" in trained:  # other weights at the same images
        under = f"{under}-ema-{trained['ema_std']:g}"
    with Tracker(tracking_uri(home()), recipe.name, run, folder) as tracker:
        for images, value in sorted(curve.items()):
            tracker.metrics(images, {f"{under}/fid_curve": value})
        flat: dict[str, float] = {}
        for name, figure in ours.figures.items():
            of = _plain(figure)
            flat |= {f"{under}/{name}{end}": of[part] for end, part in ENDS.items()}
        tracker.metrics(last.images, flat)
        tracker.tags({f"langevin.spec.{under}": ours.spec.hash})
        tracker.image(f"{under}/samples", last.images, contact_sheet(samples[:SHEET].numpy(), 10))
        root = within_home(recipe.data.root)
        measured_on = (f"{manifest.name}/test", version_of(manifest, root))
        tracker.dataset(*measured_on, str(root), "test")
        for one in kept:
            of_one = {f"{under}/fid_curve": curve[one.images]}
            tracker.model(one.sha256, one.images, str(one.folder), of_one, measured_on)
