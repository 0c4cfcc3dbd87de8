"""Evaluated checkpoint -> registered version, with the alias it has earned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from langevin.config.paths import home, within_home
from langevin.config.recipe import Recipe
from langevin.data.manifest import Manifest
from langevin.errors import ConfigError
from langevin.evaluation.suite import Evaluation, compare, plain
from langevin.stages.outputs import Outputs, read_json, write_json
from langevin.tracking.lineage import Lineage, git_state
from langevin.tracking.registry import Registry
from langevin.tracking.runs import find_run
from langevin.tracking.store import tracking_uri
from langevin.training import checkpoint as checkpoints

CHAMPION, CHALLENGER = "champion", "challenger"
METRICS = ("fid", "rfid")  # by which a model is judged: the first of them that it has


def promote(recipe: Recipe, path: Path) -> dict[str, Any]:
    """Registers the checkpoint. @champion moves to it when it is the first, or its FID (a codec's rFID) is better than the
    champion's on the same spec by more than the interval; otherwise it is @challenger. Leaves out/RECIPE/promotion.json.
    """
    outputs = Outputs.of(recipe)
    trained, evaluated = read_json(outputs.training, "train"), read_json(outputs.evaluation, "evaluate")
    if trained["sha256"] != evaluated["sha256"]:
        raise ConfigError("is of another checkpoint than the trained one", file=outputs.evaluation, field="sha256",
                          value=evaluated["sha256"][:12], mend="run `langevin evaluate RECIPE` again")  # fmt: skip
    checkpoint = checkpoints.read(home() / trained["checkpoint"])
    uri = tracking_uri(home())
    registry = Registry(uri)
    run_id = find_run(uri, recipe.name, trained["run"])
    ours = Evaluation.from_json(evaluated["evaluation"])
    manifest = Manifest.load(within_home(recipe.data.root))
    version = registry.register(
        recipe.name,
        str(checkpoint.folder),
        run_id,
        _lineage(recipe, manifest, path, trained, run_id) | {"langevin.spec": ours.spec.hash},
        description=f"{recipe.model.method} on {manifest.name}, {checkpoint.images:,} images",
    )
    alias, reason = _earned(registry, recipe.name, version, ours, evaluated)
    registry.tag_version(recipe.name, version, {"langevin.promotion": reason})
    registry.set_alias(recipe.name, alias, version)
    found = registry.resolve(f"models:/{recipe.name}/{version}")
    if found.model_id:
        figures = {f"test/{name}": plain(figure.value) for name, figure in ours.figures.items()}
        registry.log_model_metrics(found.model_id, figures, (manifest.name, manifest.digest))
    result = {"model": found.uri, "alias": alias, "reason": reason, "sha256": checkpoint.sha256, "run_id": run_id}
    write_json(outputs.promotion, result)
    return result


def _earned(
    registry: Registry, name: str, version: int, ours: Evaluation, evaluated: dict[str, Any]
) -> tuple[str, str]:
    """(alias, reason)."""
    held = registry.alias(name, CHAMPION)
    if held is None:
        return CHAMPION, "the first version"
    if held == version:
        return CHAMPION, "is the champion already"
    beside = evaluated["champion"]
    if beside is None or beside["model"] != f"models:/{name}/{held}":
        raise ConfigError("was made beside another champion", field="champion", value=beside and beside["model"],
                          mend="run `langevin evaluate RECIPE` again")  # fmt: skip
    metric = next(name for name in METRICS if name in ours.figures)
    found = compare(Evaluation.from_json(beside["evaluation"]), ours)[metric]
    figures = f"{metric} {found.after.value:.4g} against {found.before.value:.4g}, interval of the difference {found.margin:.2g}"
    if found.better:
        return CHAMPION, f"better than version {held}: {figures}"
    return CHALLENGER, f"not better than version {held} by more than the interval: {figures}"


def _lineage(
    recipe: Recipe, manifest: Manifest, path: Path, trained: dict[str, Any], run_id: str | None
) -> dict[str, str]:
    commit, dirty = git_state(path.parent)
    return Lineage(
        git_commit=commit,
        git_dirty=dirty,
        dataset_digest=manifest.digest,
        dataset_name=manifest.name,
        recipe=recipe.name,
        recipe_hash=trained["recipe_hash"],
        run_name=trained["run"],
        run_id=run_id,
        checkpoint_sha256=trained["sha256"],
        images=trained["images"],
    ).tags()
