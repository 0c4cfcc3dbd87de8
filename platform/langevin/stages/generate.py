"""Registered model -> images as shards with labels, seeds and a manifest that names the exact version."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from langevin.cluster.generate import generate as generate_on
from langevin.cluster.submit import is_job_server, submit
from langevin.config.paths import home
from langevin.config.recipe import Recipe
from langevin.generation.ledger import finish, request_of
from langevin.generation.plan import Request
from langevin.stages.outputs import Outputs
from langevin.stages.progress import Stage, say
from langevin.tracking.registry import ModelVersion, Registry
from langevin.tracking.store import tracking_uri
from langevin.training import checkpoint as checkpoints


def generate(
    recipe: Recipe, path: Path, given: dict[str, Any], out: Path | None, address: str | None
) -> dict[str, Any]:
    """Runs the recipe's batch job; ``given`` overrides fields of its generate section (model, images, seed, workers).

    An alias is resolved once, to an exact version. The job goes on in ``out`` where an earlier one of the same request
    stopped; the recipe's own folder, out/RECIPE/generated, is emptied first where it holds another request's images.
    """
    section = recipe.generate.model_copy(update=given)
    version = Registry(tracking_uri(home())).resolve(given.get("model", recipe.serving))
    checkpoint = checkpoints.read(Path(version.source))
    request = _request(recipe, version, checkpoint.model["data"], section.images, section.unit, section.seed)
    folder = out or Outputs.of(recipe).generated
    if out is None and request_of(folder) not in (None, request.digest):
        say(f"generate: {folder} holds another request's images, which are replaced")
        shutil.rmtree(folder)
    if address is not None and is_job_server(address):
        exact = {"model": request.model, "images": request.n, "seed": request.seed, "workers": section.workers}
        options = [text for name, value in exact.items() for text in (f"--{name}", str(value))]
        submit(
            "generate", path, address, f"{recipe.name}-{request.digest}", [*options, "--out", str(folder.absolute())]
        )
    else:
        with Stage("generate", request.n) as stage:
            generate_on(request, str(version.source), folder.absolute(), address, section.workers, stage.at)
    manifest = finish(folder, request)
    return {"model": request.model, "samples": request.n, "folder": str(folder), "digest": manifest["digest"]}


def _request(recipe: Recipe, version: ModelVersion, data: dict[str, Any], images: int, unit: int, seed: int) -> Request:
    return Request(
        model=version.uri,
        checkpoint_sha256=version.tags["langevin.checkpoint_sha256"],
        dataset_digest=data["digest"],
        classes=tuple(data["classes"]),
        levels=data["levels"],
        labels="balanced",
        n=images,
        seed=seed,
        unit=unit,
        sampling=recipe.sample.plain(),
    )
