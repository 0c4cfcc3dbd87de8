"""Batch sampling on Ray: units of work over workers that each hold the model; what is done is never done again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from langevin.cluster.session import gpu_share, session
from langevin.config.load import restore
from langevin.config.recipe import Sample
from langevin.generation.ledger import done
from langevin.generation.plan import Request, Unit, units
from langevin.generation.writer import write_unit
from langevin.protocols import own_device
from langevin.training import checkpoint as checkpoints


def generate(
    request: Request, source: str, folder: Path, address: str | None, workers: int, tell: Callable[[int], None]
) -> None:
    """Writes every unit of the request that is not in ``folder`` yet. 0 workers: in this process; a CPU each, and a GPU
    or a share of one where the cluster has any.

    source: the checkpoint's folder; tell: called with the images done so far. A dead worker's unit is done by another.
    """
    finished = done(folder, request)
    waiting = [unit for unit in units(request) if unit.index not in finished]
    images = request.n - sum(unit.stop - unit.start for unit in waiting)
    tell(images)
    if not waiting:
        return
    if workers == 0:
        sampler = Sampler(source, request, str(folder))
        for unit in waiting:
            images += sampler.write(unit)
            tell(images)
        return
    workers = min(workers, len(waiting))
    with session(address, workers):
        import ray
        from ray.util import ActorPool

        actor = ray.remote(num_cpus=1, num_gpus=gpu_share(workers), max_restarts=3, max_task_retries=3)(Sampler)
        pool = ActorPool([actor.remote(source, request, str(folder)) for _ in range(workers)])
        for count in pool.map_unordered(lambda held, unit: held.write.remote(unit), waiting):
            images += count
            tell(images)


class Sampler:
    """A worker with the model in memory. One thread: a unit's bytes must not depend on how busy a machine is."""

    def __init__(self, source: str, request: Request, folder: str) -> None:
        torch.set_num_threads(1)
        self.request, self.folder = request, Path(folder)
        sample = Sample.model_validate_json(json.dumps(dict(request.sampling)))
        self.model: Any = restore(checkpoints.read(Path(source)), sample).to(own_device())

    def write(self, unit: Unit) -> int:
        """Samples and writes one unit; how many images that was."""
        write_unit(unit, self.request, self.model, self.folder, own_device())
        return unit.stop - unit.start
