"""Images -> versioned WebDataset shards."""

from __future__ import annotations

from langevin.config.paths import within_home
from langevin.config.recipe import Data, Recipe
from langevin.data.manifest import MANIFEST, Manifest
from langevin.data.shards import write_dataset
from langevin.data.sources import Digits, Folder, Reduced, Shapes, Source
from langevin.errors import DataError
from langevin.stages.progress import Stage


def prepare(recipe: Recipe) -> Manifest:
    """Writes the recipe's data set. The same images give the same bytes, whenever and wherever this runs."""
    data = recipe.data
    source = _source(recipe)
    check_classes(data, len(source.info.classes))
    with Stage("prepare", len(source)) as stage:
        return write_dataset(
            within_home(data.root),
            source,
            name=source.info.name,
            split_fractions=data.splits,
            shard_samples=data.shard_samples,
            progress=lambda done, total: stage.at(done),
        )


def ensure(recipe: Recipe) -> None:
    """Prepares the data set where there is none yet."""
    if not (within_home(recipe.data.root) / MANIFEST).exists():
        prepare(recipe)


def check_classes(data: Data, found: int) -> None:
    """DataError where a folder has another number of classes than the recipe says."""
    if data.classes not in (None, found):
        assert data.images is not None  # of other sources the recipe says no classes
        raise DataError(f"the folder holds {found} class folders", file=within_home(data.images), field="data.classes",
                        value=data.classes, mend=f"give {found}, or mend the folder")  # fmt: skip


def _source(recipe: Recipe) -> Source:
    data = recipe.data
    if data.source == "digits":
        return Digits()
    size = data.reduced_from or data.size
    assert size is not None  # the recipe's own check
    if data.source == "shapes":
        assert data.count is not None
        source: Source = Shapes(size, data.count, objects=data.objects or 3)
    else:
        assert data.images is not None
        source = Folder(within_home(data.images), size, data.channels)
    return Reduced(source, data.size) if data.reduced_from and data.size else source
