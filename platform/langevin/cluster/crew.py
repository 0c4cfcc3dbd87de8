"""Workers of a Ray cluster as an evaluation's crew: a CPU each, and a GPU, or a share of one, where the cluster has any."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from langevin.cluster.session import cpus, gpu_share, session
from langevin.errors import LangevinError
from langevin.evaluation.compatibility import declare_missing_operators
from langevin.evaluation.crew import Crew, Item, Result, Threads, Work

START_S = 120.0  # that workers are waited for


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

    def __init__(self, count: int, patience_s: float = START_S) -> None:
        """LangevinError where none has started after ``patience_s``; those that have are enough, for the same figures."""
        import ray

        kind = ray.remote(
            num_cpus=1, num_gpus=gpu_share(count), max_restarts=3, max_task_retries=3, scheduling_strategy="DEFAULT"
        )(_Worker)
        actors: list[Any] = [kind.remote() for _ in range(count)]
        started = {actor.is_there.remote(): actor for actor in actors}
        there, missing = ray.wait(list(started), num_returns=count, timeout=patience_s)
        for late in missing:
            ray.kill(started[late])
        if not there:
            free = {name: round(there) for name, there in ray.available_resources().items() if name in ("CPU", "GPU")}
            raise LangevinError(f"none of {count} workers started in {patience_s:.0f} s: the cluster has {free} free")
        with _named():
            ray.get(there)
        self._actors = [started[one] for one in there]

    def map(
        self, work: Work[Item, Result], items: Sequence[Item], done: Callable[[Item], None] = lambda _: None
    ) -> list[Result]:
        """LangevinError where a worker dies again and again."""
        import ray
        from ray.util import ActorPool

        told, found = _Told(ray.put(work.to(torch.device("cpu")))), dict[int, Result]()
        with _named():
            pool: Any = ActorPool(self._actors)
            parts = list(enumerate(items))
            for number, result in pool.map_unordered(lambda actor, part: actor.do.remote(told, *part), parts):
                found[number] = result
                done(items[number])
        return [found[number] for number in range(len(items))]


@contextmanager
def _named() -> Iterator[None]:
    """What went wrong in a worker, as it was said there or in a line."""
    import ray

    try:
        yield
    except ray.exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, LangevinError) else error from None
    except ray.exceptions.RayError as error:
        first = str(error).strip().partition("\n")[0]
        raise LangevinError(f"a worker of the evaluation died and could not be replaced: {first}") from error


@dataclass(frozen=True)
class _Told:
    """A work by its place in the object store: Ray would fetch one that it is given itself anew for every part."""

    place: Any

    def work(self) -> Work[Any, Any]:
        import ray

        found: Work[Any, Any] = ray.get(self.place)
        return found


class _Worker:
    """A process with one thread, which keeps the work that it was last told of."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        declare_missing_operators()  # a work's network may be torch-fidelity's, which imports torchvision
        self.told: _Told | None = None
        self.work: Work[Any, Any] | None = None

    def is_there(self) -> None: ...

    def do(self, told: _Told, number: int, item: Any) -> tuple[int, Any]:
        if self.work is None or told != self.told:
            self.work = None  # the one before gives way: both may not fit on a GPU
            self.work, self.told = told.work().here(), told
        return number, self.work(item)
