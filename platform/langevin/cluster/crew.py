"""Workers of a Ray cluster as an evaluation's crew: a CPU each, and a GPU, or a share of one, where the cluster has any."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from langevin.cluster.session import cpus, gpu_share, session
from langevin.errors import LangevinError
from langevin.evaluation.compatibility import declare_missing_operators
from langevin.evaluation.crew import Crew, Item, Result, Threads, Work
from langevin.protocols import own_device


def own_threads() -> Threads:
    """Of this process: one a CPU, or one for the GPU."""
    return Threads(1 if torch.cuda.is_available() else cpus())


@contextmanager
def crew(address: str | None, workers: int) -> Iterator[Crew]:
    """So many workers of the cluster at ``address``, of an embedded one without; 0: threads of this process."""
    if workers == 0:
        yield own_threads()
        return
    with session(address, workers):
        yield Workers(workers)


class Workers:
    """Processes of the cluster that this one works with. A dead one is started again, elsewhere if need be, and its part is
    done again.
    """

    def __init__(self, count: int) -> None:
        import ray

        kind = ray.remote(num_cpus=1, num_gpus=gpu_share(count), max_restarts=3, max_task_retries=3)(_Worker)
        self._actors = [kind.remote() for _ in range(count)]

    def map(
        self, work: Work[Item, Result], items: Sequence[Item], done: Callable[[Item], None] = lambda _: None
    ) -> list[Result]:
        """LangevinError where a worker dies again and again."""
        import ray
        from ray.util import ActorPool

        told, found = [ray.put(work.to(torch.device("cpu")))], list[Result]()
        pool = ActorPool(self._actors)
        results = pool.map(lambda actor, item: actor.do.remote(told, item), list(items))
        try:
            for item, result in zip(items, results, strict=True):
                found.append(result)
                done(item)
        except ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, LangevinError) else error from None
        except ray.exceptions.ActorDiedError as error:
            raise LangevinError("a worker of the evaluation died four times; its memory may not be enough") from error
        return found


class _Worker:
    """A process with one thread, which keeps the work that it was last told of."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        declare_missing_operators()  # a work's network may be torch-fidelity's, which imports torchvision
        self.told: Any = None
        self.work: Any = None

    def do(self, told: list[Any], item: Any) -> Any:
        """told: the work, in the object store; in a list, for Ray fetches what it is given itself anew each time."""
        import ray

        if told != self.told:
            self.work, self.told = ray.get(told[0]).to(own_device()), told
        return self.work(item)
