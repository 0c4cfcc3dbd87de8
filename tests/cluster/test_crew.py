"""An evaluation by workers of a real Ray: what they find is what one process finds, whatever becomes of them."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from langevin.cluster.crew import Workers
from langevin.cluster.session import session
from langevin.errors import LangevinError, NumericsError
from langevin.evaluation.crew import ALONE, Threads, Work

from .servers import Store
from .way import langevin, surroundings

pytestmark = pytest.mark.cluster


@dataclass(frozen=True)
class Square(Work[Tensor, Tensor]):
    """times: that a worker dies on the number 3, counted in a folder."""

    folder: Path
    times: int = 0

    def do(self, item: Tensor) -> Tensor:
        if int(item[0]) == 3 and len(list(self.folder.iterdir())) < self.times:
            (self.folder / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if int(item[0]) == 5:
            raise NumericsError("five has no square")
        return self.model(item) ** 2


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with session(None, 2):
        import ray

        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # a worker cannot import tests
        yield


@pytest.fixture
def two() -> Workers:
    return Workers(2)


def numbers(*values: int) -> list[Tensor]:
    return [torch.tensor([float(value)]) for value in values]


def squared(values: list[Tensor]) -> list[float]:
    return [float(value) for value in values]


@pytest.mark.parametrize("times", [0, 1, 2])
def test_results_come_in_order_whoever_dies(two: Workers, tmp_path: Path, times: int) -> None:
    work, told = Square(torch.nn.Identity(), tmp_path, times), list[float]()
    found = two.map(work, numbers(1, 2, 3, 4, 6), lambda item: told.append(float(item)))
    assert squared(found) == [1, 4, 9, 16, 36]
    assert sorted(told) == [1, 2, 3, 4, 6]
    assert len(list(tmp_path.iterdir())) == times


def test_another_work_is_another_work(two: Workers, tmp_path: Path) -> None:
    double = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(double.weight, 2)
    with torch.no_grad():
        for model, expected in ((torch.nn.Identity(), [1.0, 4.0]), (double, [4.0, 16.0])):
            work = Square(model, tmp_path)
            assert [squared(crew.map(work, numbers(1, 2))) for crew in (ALONE, Threads(2), two)] == [expected] * 3


@pytest.mark.parametrize("crew", [ALONE, Threads(2), None])
def test_what_fails_says_what_it_said(crew: Threads | None, two: Workers, tmp_path: Path) -> None:
    with pytest.raises(NumericsError, match=r"^five has no square$"):
        (crew or two).map(Square(torch.nn.Identity(), tmp_path), numbers(4, 5, 6))


def test_who_always_dies_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(LangevinError, match="died and could not be replaced"):
        Workers(1).map(Square(torch.nn.Identity(), tmp_path, times=9), numbers(3))


def test_who_finds_no_room_says_so(two: Workers) -> None:
    with pytest.raises(LangevinError, match=r"none of 1 workers started in 2 s: the cluster has .* free"):
        Workers(1, patience_s=2)


def test_figures_are_those_of_one_process_to_the_bit(
    ready: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").symlink_to(ready / "out")
    recipe = ready / "first.yaml"
    surroundings(monkeypatch, tmp_path, Store("", {}))
    assert langevin("train", recipe, "--workers", "0") == 0

    def evaluated(workers: int) -> dict[str, object]:
        (ready / "out/small/evaluation.json").unlink(missing_ok=True)
        for known in (*(ready / "out/features").glob("*"), *tmp_path.glob("runs/*/curve/*.json")):
            known.unlink()
        assert langevin("evaluate", recipe, "--workers", str(workers)) == 0
        found: dict[str, object] = json.loads(
            json.loads((ready / "out/small/evaluation.json").read_text())["evaluation"]
        )
        del found["seconds"]
        return found | {"curve": (ready / "out/small/fid.csv").read_text()}

    assert evaluated(2) == evaluated(0)
