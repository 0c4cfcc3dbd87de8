"""Training on Ray: Ray Train gives the loop its process group and restarts it when a worker dies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from langevin.cluster.alone import ChildProcess, RayTask
from langevin.cluster.beside import Companion, beside
from langevin.cluster.progress import watched
from langevin.cluster.session import cpus, session
from langevin.cluster.training import Training
from langevin.cluster.warm_start import bring, every
from langevin.cluster.worker import work
from langevin.errors import LangevinError
from langevin.training.checkpoint import Checkpoint

MAX_RESTARTS = 3


def train(
    training: Training,
    address: str | None,
    workers: int,
    tell: Callable[[dict[str, Any]], None],
    threads: int | None = None,
    companion: Companion | None = None,
) -> Checkpoint:
    """Trains to the training's goal, from where the run's last checkpoint ends, or where its recipe has it begin; returns the
    last checkpoint. 0 workers: in this process, with so many threads, one a CPU without.

    A dead worker restarts the group from the last checkpoint; after the driver's death, call again. companion: what
    evaluates the checkpoints meanwhile; of a training that is complete, the last one where that was not done yet.
    """
    images = training.goal
    bring(training)
    done = every(training)
    if not done or done[-1].images < images:
        with watched(Path(training.folder), tell):
            if workers == 0:
                torch.set_num_threads(threads or cpus())
                with beside(training, companion, ChildProcess):
                    work(asdict(training))
            else:
                with session(address, workers), beside(training, companion, RayTask):
                    _fit(training, workers)
        done = every(training)
    elif companion is not None:
        with beside(training, companion, ChildProcess):
            pass
    if not done or done[-1].images < images:
        raise LangevinError(f"training ended before its last checkpoint in {training.checkpoints}")
    return done[-1]


def _fit(training: Training, workers: int) -> None:
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    gpus = ray.cluster_resources().get("GPU", 0) >= workers
    trainer = TorchTrainer(
        work,
        train_loop_config=asdict(training),
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpus, resources_per_worker={"CPU": 1}),
        run_config=RunConfig(
            name=training.name,
            storage_path=str(Path(training.folder) / "ray"),
            failure_config=FailureConfig(max_failures=MAX_RESTARTS),
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as failed:
        causes = list(getattr(failed, "worker_failures", {}).values())
        ours = [cause for cause in causes if isinstance(cause, LangevinError)]
        if ours:
            raise ours[0] from None
        raise LangevinError(f"training failed on its workers: {causes[0] if causes else failed}") from failed
