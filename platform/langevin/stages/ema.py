"""Finished training -> averaged weights of any length, made from its snapshots, as a checkpoint that the stages use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langevin.cluster.training import Training
from langevin.config.load import description
from langevin.config.paths import home, within_home
from langevin.config.recipe import Recipe
from langevin.data.manifest import Manifest
from langevin.errors import CheckpointError, ConfigError
from langevin.stages.outputs import Outputs, read_json, write_json
from langevin.training import checkpoint as checkpoints
from langevin.training import snapshots
from langevin.training.checkpoint import Checkpoint
from langevin.training.posthoc import WIDEST, Profile, nearest

TRAIN = "set train.ema_stds, such as [0.05, 0.1], and run `langevin train RECIPE`"


def ema(recipe: Recipe, path: Path, std: float) -> dict[str, Any]:
    """The average of relative width ``std``, in (0, 0.29), at the end of the recipe's training. Karras et al. 2024.

    Leaves a checkpoint in runs/RUN/posthoc/STD and points out/RECIPE/training.json at it, until the next `langevin
    train`. profile_error: |mixture - profile| / |profile| in L2; snapshots that lie far apart make it large.
    ConfigError: a std out of range, a recipe without snapshots; DataError: not trained yet.
    """
    if not 0 < std < WIDEST:
        raise ConfigError("is no length of a power-function average", field="--std", value=std,
                          mend=f"take one between 0 and {WIDEST}")  # fmt: skip
    if not recipe.train.ema_stds:
        raise ConfigError("is empty: this recipe keeps no snapshots", file=path, field="train.ema_stds", mend=TRAIN)
    outputs = Outputs.of(recipe)
    trained = read_json(outputs.training, "train")
    manifest = Manifest.load(within_home(recipe.data.root))
    training = Training.of(recipe, path.parent)
    last = checkpoints.latest(training.checkpoints)
    if trained["run"] != training.name or last is None:
        raise ConfigError("is of another training than this recipe's", file=outputs.training, field="run",
                          value=trained["run"], mend="run `langevin train RECIPE` first")  # fmt: skip
    made = averaged(training, last, std, description(recipe, manifest))
    place = {
        "checkpoint": str(made.checkpoint.folder.relative_to(home())),
        "sha256": made.checkpoint.sha256,
        "ema_std": std,
    }
    write_json(outputs.training, trained | place)
    return trained | place | {"snapshots": made.snapshots, "profile_error": made.error}


@dataclass(frozen=True)
class Averaged:
    """The checkpoint of an average, of how many snapshots it is made, and |mixture - profile| / |profile| in L2."""

    checkpoint: Checkpoint
    snapshots: int
    error: float


def averaged(training: Training, last: Checkpoint, std: float, says: dict[str, Any]) -> Averaged:
    """The average of relative width ``std`` at the images of ``last``, as a checkpoint in runs/RUN/posthoc/STD. says: the
    model's description. CheckpointError where there are no snapshots.
    """
    stored = [one for one in snapshots.every(training.snapshots) if one.checkpoint.images <= last.images]
    if not stored:
        raise CheckpointError("holds no snapshots", file=training.snapshots, mend=TRAIN)
    wanted = Profile(std, max(one.profile.end for one in stored))
    mixture = nearest([one.profile for one in stored], wanted)
    average = checkpoints.average(last) | snapshots.mix(stored, mixture)  # buffers are in the checkpoint alone
    made = checkpoints.save_average(training.posthoc / str(std), average, last.images, says | {"ema_std": std})
    return Averaged(made, len(stored), mixture.error)
