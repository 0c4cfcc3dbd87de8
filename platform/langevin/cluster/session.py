"""A Ray session: a cluster of our own inside this process's machine, or one that is already there."""

from __future__ import annotations

import logging
import math
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from langevin.errors import ConfigError, LangevinError

STARTS = 3  # Ray waits 30 s for its own processes, which a busy machine may not grant them
OBJECT_STORE_BYTES = 80 * 2**20  # of memory: checkpoints and shards go through files, and what is larger goes to disk


def cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


@contextmanager
def session(address: str | None, workers: int) -> Iterator[None]:
    """Ray for the duration of a job: at ``address`` ("auto" or host:port), else embedded with one CPU a worker.

    An embedded cluster takes jobs only from who holds its token, which is made here and lives in this process. In a worker
    of a cluster, such as a trial of a search, the session is that cluster's.
    ConfigError where there are fewer CPUs than workers, before anything is started where that can be known; LangevinError
    where the machine is too busy to start one.
    """
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "300")
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    if address is None:
        enough(workers, cpus(), "this machine")
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import ray  # after the environment: Ray reads it once, at import

    try:
        if address is None:
            _embedded(workers)
        else:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            enough(workers, int(ray.cluster_resources().get("CPU", 0)), f"the cluster at {address}")
        yield
    except ConnectionError as error:
        first = str(error).splitlines()[0]
        raise ConfigError(
            f"no Ray cluster answers there ({first})",
            field="address",
            value=address,
            mend="start one: `ray start --head`",
        ) from None
    finally:
        ray.shutdown()


def gpu_share(workers: int) -> float:
    """What each of so many workers gets of the cluster's GPUs: one, or a part of one where they are fewer, or none of none."""
    import ray

    gpus = int(ray.cluster_resources().get("GPU", 0))
    # as many to each GPU, in the steps that Ray counts by: a share that does not fit waits for ever
    return math.floor(10_000 / math.ceil(workers / gpus)) / 10_000 if gpus else 0.0


def _embedded(workers: int) -> None:
    import ray

    for _ in range(STARTS):
        try:
            ray.init(
                address="local",
                num_cpus=max(workers, 1),
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=True,  # Ray Train's cleaner of dead workers needs it
                dashboard_host="127.0.0.1",
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
            return
        except Exception as error:  # Ray's own is no narrower
            if "timed out during startup" not in str(error):
                raise
    raise LangevinError(f"Ray did not start, {STARTS} times: the machine is too busy; run it again")


def enough(workers: int, there: int, where: str, recipe: Path | None = None, field: str = "workers") -> None:
    """ConfigError where there are fewer CPUs than workers, which would wait for ever."""
    if workers > there:
        mend = f"take at most {there}" if there else "start a node with CPUs"
        raise ConfigError(
            f"more workers than the {there} CPUs of {where}",
            file=recipe,
            field=field,
            value=workers,
            mend=mend,
        )
