"""Evaluated checkpoint -> registered version, with the alias it has earned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from langevin.config.paths import home, run_folder, within_home
from langevin.config.recipe import Recipe
from langevin.data.files import sha256
from langevin.data.manifest import Manifest
from langevin.data.version import version_of
from langevin.errors import ConfigError
from langevin.evaluation.comparison import compare
from langevin.evaluation.paired import paired_of
from langevin.evaluation.rule import Rule, Verdict
from langevin.evaluation.suite import Evaluation, plain
from langevin.stages.ancestry import MADE_OF, parts
from langevin.stages.outputs import Outputs, read_json, write_json
from langevin.tracking.lineage import Lineage, git_state
from langevin.tracking.registry import CHECKPOINT_TAG, ModelVersion, Registry
from langevin.tracking.runs import Tracker, find_run
from langevin.tracking.store import tracking_uri
from langevin.tracking.succession import CHAMPION, Succession
from langevin.training import checkpoint as checkpoints
from langevin.training.checkpoint import Checkpoint

CHALLENGER = "challenger"


def promote(recipe: Recipe, path: Path) -> dict[str, Any]:
    """Registers the checkpoint. @champion moves to it when it is the first, or when it is better than the champion on the
    same spec by the recipe's rule (section promote); otherwise it is @challenger. Leaves out/RECIPE/promotion.json.

    What was rolled back does not win a second time by the spec that it won by: the same evaluation is no new evidence.
    ConfigError, before anything is registered: the evaluation is of another checkpoint or spec, was made beside another
    champion, or has not the figures of the rule.
    """
    outputs = Outputs.of(recipe)
    trained, evaluated = read_json(outputs.training, "train"), read_json(outputs.evaluation, "evaluate")
    if trained["sha256"] != evaluated["sha256"]:
        raise ConfigError("is of another checkpoint than the trained one", file=outputs.evaluation, field="sha256",
                          value=evaluated["sha256"][:12], mend="run `langevin evaluate RECIPE` again")  # fmt: skip
    checkpoint = checkpoints.read(home() / trained["checkpoint"])
    uri = tracking_uri(home())
    registry = Registry(uri)
    ours = Evaluation.from_json(evaluated["evaluation"])
    rule = Rule.of(recipe.promote.better, recipe.promote.no_worse, ours.figures, path)
    champion = registry.holder(recipe.name, CHAMPION)
    verdict = _verdict(registry, champion, rule, ours, evaluated)
    manifest = Manifest.load(within_home(recipe.data.root))
    run_id = find_run(uri, recipe.name, trained["run"])
    version = registry.register(
        recipe.name,
        str(checkpoint.folder),
        run_id,
        _lineage(recipe, manifest, path, trained, run_id)
        | _sources(recipe, path, checkpoint, trained)
        | {"langevin.spec": ours.spec.hash},
        description=f"{recipe.model.method} on {manifest.name}, {checkpoint.images:,} images",
    )
    if champion is None or champion.version != version:
        registry.tag_version(recipe.name, version, {"langevin.promotion": verdict.reason})
        if verdict.won:
            before = champion.version if champion else None
            Succession(registry, recipe.name).promote(version, before, ours.spec.hash)
        else:
            registry.set_alias(recipe.name, CHALLENGER, version)
    found = registry.resolve(f"models:/{recipe.name}/{version}")
    if found.model_id:
        figures = {f"test/{name}": plain(figure.value) for name, figure in ours.figures.items()}
        # by the run's own journal, behind what the evaluation may still have in it: from beside it points would double
        with Tracker(uri, recipe.name, trained["run"], run_folder(trained["run"])) as tracker:
            tracker.model(checkpoint.sha256, checkpoint.images, str(checkpoint.folder), figures,
                          (f"{manifest.name}/test", version_of(manifest, within_home(recipe.data.root))))  # fmt: skip
    result = _result(found, CHAMPION if verdict.won else CHALLENGER, verdict.reason)
    write_json(outputs.promotion, result)
    return result


def roll_back(recipe: Recipe) -> dict[str, Any]:
    """@champion goes back to the version that held it before, and the one that held it is @challenger. Again: further back.

    RegistryError where there is none to go back to. out/RECIPE/promotion.json follows where it names that version.
    """
    registry = Registry(tracking_uri(home()))
    undone = Succession(registry, recipe.name).roll_back()
    reason = f"rolled back to version {undone.before}"
    registry.tag_version(recipe.name, undone.version, {"langevin.promotion": reason})
    registry.set_alias(recipe.name, CHALLENGER, undone.version)
    lost = registry.resolve(f"models:/{recipe.name}/{undone.version}")
    promotion = Outputs.of(recipe).promotion
    if promotion.is_file() and read_json(promotion, "promote")["model"] == lost.uri:
        write_json(promotion, _result(lost, CHALLENGER, reason))
    back = registry.resolve(f"models:/{recipe.name}/{undone.before}")
    return _result(back, CHAMPION, f"rolled back from version {undone.version}")


def _verdict(
    registry: Registry, champion: ModelVersion | None, rule: Rule, ours: Evaluation, evaluated: dict[str, Any]
) -> Verdict:
    if champion is None:
        return Verdict(True, "the first version")
    if champion.tags.get(CHECKPOINT_TAG) == evaluated["sha256"]:
        return Verdict(True, champion.tags.get("langevin.promotion", "is the champion already"))
    beside = evaluated["champion"]
    if beside is None or beside["model"] != champion.uri:
        raise ConfigError("was made beside another champion", field="champion", value=beside and beside["model"],
                          mend="run `langevin evaluate RECIPE` again")  # fmt: skip
    compared = compare(Evaluation.from_json(beside["evaluation"]), ours, paired_of(beside))
    for known in registry.versions(champion.name):
        if known.tags.get(CHECKPOINT_TAG) == evaluated["sha256"]:
            back = Succession(registry, champion.name).rolled_back(known.version, ours.spec.hash)
            if back:
                return Verdict(False, f"was rolled back to version {back.version} on {back.time}, and spec "
                                      f"{ours.spec.hash} is what it had won by: another one would be new evidence")  # fmt: skip
    return rule.decide(compared, f"version {champion.version}")


def _result(version: ModelVersion, alias: str, reason: str) -> dict[str, Any]:
    sha256 = version.tags[CHECKPOINT_TAG]
    return {"model": version.uri, "alias": alias, "reason": reason, "sha256": sha256, "run_id": version.run_id}


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


def _sources(recipe: Recipe, path: Path, checkpoint: Checkpoint, trained: dict[str, Any]) -> dict[str, str]:
    """Where its ancestors lie, for who looks for them from the registry: recipe, data, and the models it is made of."""
    tags = {
        "langevin.recipe_file": str(path),
        "langevin.recipe_sha256": sha256(path),
        "langevin.dataset_root": recipe.data.root,
    }
    if recipe.latents:
        tags |= {"langevin.latents_root": recipe.latents.root, "langevin.latents_digest": trained["dataset_digest"]}
    return tags | {f"{MADE_OF}{part['recipe']}": part["sha256"] for part in parts(checkpoint.model) if "sha256" in part}
