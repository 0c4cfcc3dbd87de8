"""Images -> latents, once: a trained codec's, as a data set of their own that a latent model is trained on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from langevin.cluster.session import cpus
from langevin.config.load import restore
from langevin.config.paths import within_home
from langevin.config.recipe import Recipe
from langevin.config.trained import trained
from langevin.data.latents import LatentBatch, write_latents
from langevin.data.manifest import Manifest
from langevin.data.reader import read_split
from langevin.errors import ConfigError
from langevin.methods.autoencoder import Blocked
from langevin.protocols import Batch
from langevin.randomness import Keys, Noise
from langevin.stages.progress import Stage

BATCH = 256
SEED = 7_000_003  # of the posterior's draws: each image is encoded once, by noise of its own


@torch.no_grad()
def encode(recipe: Recipe) -> Manifest:
    """Writes the latents of all images of the recipe at its latents.root, at deviation 1 over the training images.

    ConfigError for a recipe of images; DataError where its codec is not trained, or its images are not prepared.
    """
    if recipe.latents is None:
        raise ConfigError(
            "is missing: the model is one of images", field="latents", mend="give latents.codec and latents.root"
        )
    torch.set_num_threads(cpus())
    found = trained(recipe.latents.codec)
    codec, root = Blocked(restore(found).codec), within_home(recipe.data.root)
    pixels = Manifest.load(root)
    splits = {name: read_split(root, name) for name in pixels.splits}
    with Stage("encode", sum(map(len, splits.values()))) as stage:
        latents = {name: torch.cat(list(_encoded(codec, split))) for name, split in splits.items()}
        scale = float(latents["train"].double().std())
        batches = (LatentBatch.of(name, split, latents[name] / scale) for name, split in splits.items())
        return write_latents(
            within_home(recipe.latents.root),
            pixels,
            batches,
            codec_sha256=found.sha256,
            scale=scale,
            shard_samples=recipe.data.shard_samples,
            progress=lambda done, total: stage.at(done),
        )


def _encoded(codec: Any, split: Batch) -> Iterator[torch.Tensor]:
    for start in range(0, len(split), BATCH):
        part = split[start : start + BATCH]
        yield codec.encode(part.images, Noise(Keys(SEED, part.ordinals)).within("codec"))
