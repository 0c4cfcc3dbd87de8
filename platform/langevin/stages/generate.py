"""Registered model -> images as shards with labels or prompts, seeds and a manifest that names the exact version."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from langevin.cluster.generate import generate as generate_on
from langevin.cluster.submit import is_job_server, seen_by_jobs, submit
from langevin.config.paths import home
from langevin.config.recipe import Recipe
from langevin.errors import ConfigError
from langevin.generation.ledger import finish, request_of
from langevin.generation.plan import Request
from langevin.stages.ancestry import record_generated
from langevin.stages.outputs import Outputs
from langevin.stages.progress import Stage, say
from langevin.stages.prompts import prompts_for
from langevin.tracking.registry import ModelVersion, Registry
from langevin.tracking.store import tracking_uri
from langevin.training import checkpoint as checkpoints


def generate(
    recipe: Recipe, path: Path, given: dict[str, Any], out: Path | None, address: str | None
) -> dict[str, Any]:
    """Runs the recipe's batch job; ``given`` overrides fields of its generate section (model, prompts, images, seed, workers).

    An alias is resolved once, to an exact version. The job goes on in ``out`` where an earlier one of the same request
    stopped; the recipe's own folder, out/RECIPE/generated, is emptied first where it holds another request's images.
    """
    recipe = recipe.model_copy(update={"generate": recipe.generate.model_copy(update=given)})
    section = recipe.generate
    registry = Registry(tracking_uri(home()))
    version = registry.resolve(recipe.serving)
    checkpoint = checkpoints.read(Path(version.source))
    if "upsampling" in checkpoint.model:
        raise ConfigError("enlarges images, and has none to enlarge", file=path, field="generate.model", value=version.uri,
                          mend="make it a stage of a cascade, and generate from that")  # fmt: skip
    request = _request(recipe, version, checkpoint.model["data"], prompts_for(recipe, path, checkpoint.model))
    folder = out or Outputs.of(recipe).generated
    if out is None and request_of(folder) not in (None, request.digest):
        say(f"generate: {folder} holds another request's images, which are replaced")
        shutil.rmtree(folder)
    if address is not None and is_job_server(address):
        exact = {"model": request.model, "images": request.n, "seed": request.seed, "workers": section.workers}
        if "prompts" in given:
            exact["prompts"] = seen_by_jobs(Path(given["prompts"]))
        options = [text for name, value in exact.items() for text in (f"--{name}", str(value))]
        submit(
            "generate", path, address, f"{recipe.name}-{request.digest}", [*options, "--out", str(folder.absolute())]
        )
    else:
        with Stage("generate", request.n) as stage:
            generate_on(request, str(version.source), folder.absolute(), address, section.workers, stage.at)
    manifest = finish(folder, request)
    record_generated(registry, version, request, folder, manifest["digest"])
    return {"model": request.model, "samples": request.n, "folder": str(folder), "digest": manifest["digest"]}


def _request(recipe: Recipe, version: ModelVersion, data: dict[str, Any], prompts: tuple[str, ...] | None) -> Request:
    return Request(
        model=version.uri,
        checkpoint_sha256=version.tags["langevin.checkpoint_sha256"],
        dataset_digest=data["digest"],
        classes=tuple(data["classes"]),
        levels=data["levels"],
        labels="balanced",
        n=recipe.generate.images,
        seed=recipe.generate.seed,
        unit=recipe.generate.unit,
        sampling=recipe.sample.plain(),
        prompts=prompts,
    )
