"""A training as plain values that travel to workers, and where it lies."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langevin.config.paths import home, run_folder, within_home
from langevin.config.recipe import Recipe
from langevin.config.trained import part_hashes
from langevin.data.manifest import Manifest
from langevin.tracking.lineage import Lineage, git_state
from langevin.tracking.store import tracking_uri

START = "start"  # in a run's folder


@dataclass(frozen=True)
class Training:
    """What every worker is told. Paths are absolute: workers have a working directory of their own, and so they are told the
    home, below which parts that were trained before are found.
    """

    recipe: dict[str, Any]
    images: str  # the data set of the recipe's images, and the one that is read: the same, or their latents
    data: str
    folder: str
    home: str
    tracking_uri: str
    lineage: dict[str, str]
    pause: int | None = None  # where to stop this time, in images, and go on another time; None: at the end

    @classmethod
    def of(cls, recipe: Recipe, code: Path) -> Training:
        """The recipe's training on this home. code: a folder of the project, whose commit is recorded."""
        commit, dirty = git_state(code)
        manifest = Manifest.load(within_home(recipe.training_root))
        parts = part_hashes(recipe)
        name = recipe.run_name(manifest.digest, parts)
        lineage = Lineage(
            git_commit=commit,
            git_dirty=dirty,
            dataset_name=manifest.name,
            dataset_digest=manifest.digest,
            recipe=recipe.name,
            recipe_hash=recipe.training_hash(manifest.digest, parts),
            run_name=name,
        )
        images, data, folder = within_home(recipe.data.root), within_home(recipe.training_root), run_folder(name)
        return cls(
            recipe.plain(), str(images), str(data), str(folder), str(home()), tracking_uri(home()), lineage.tags()
        )

    @property
    def name(self) -> str:
        return Path(self.folder).name

    @property
    def checkpoints(self) -> Path:
        return Path(self.folder) / "checkpoints"

    @property
    def start(self) -> Path:
        """Where a copy lies of the checkpoint that it goes on from, of a recipe with a warm start."""
        return Path(self.folder) / START

    @property
    def snapshots(self) -> Path:
        return Path(self.folder) / "snapshots"

    @property
    def posthoc(self) -> Path:
        """Where the averages of other lengths lie that are made after the training."""
        return Path(self.folder) / "posthoc"

    @property
    def goal(self) -> int:
        """The images at which this time ends."""
        images: int = self.recipe["train"]["images"]
        return images if self.pause is None else min(self.pause, images)

    def parsed(self) -> Recipe:
        return Recipe.model_validate_json(json.dumps(self.recipe))
