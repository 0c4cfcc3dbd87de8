"""Two real processes under gloo on loopback: the same training as one, and the same after an interruption."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from langevin.training import checkpoint as checkpoints
from langevin.training import parallel
from langevin.training.loop import fit
from langevin.training.state import TrainState

from .example import BATCH, CutOffError, Diary, adapting, differing, fresh, plan, stream

STEPS, CUT, WORLD = 6, 3, 2


def worker(rank: int, folder: str, tasks: tuple[str, ...]) -> None:
    """One process of a group. Every process saves, under its own name, what it ends with."""
    meeting = Path(folder) / "-".join(("meeting", *tasks))
    os.environ |= {"GLOO_SOCKET_IFNAME": "lo", "CUDA_VISIBLE_DEVICES": ""}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=WORLD)
    try:
        for task in tasks:
            TASKS[task](rank, Path(folder))
    finally:
        dist.destroy_process_group()


def through(rank: int, folder: Path) -> None:
    """A whole training, and beside it one that ends after CUT steps."""
    state, diary = fresh(), Diary()
    fit(state, stream(rank=rank, world=WORLD), plan(STEPS), diary)
    checkpoints.save(folder / f"whole-{rank}", state, {"loss": diary.logged[0][1]["loss"]})
    cut = fresh()
    first = Diary(folder / "cut" if rank == 0 else None, until=CUT * BATCH)
    with contextlib.suppress(CutOffError):
        fit(cut, stream(rank=rank, world=WORLD), plan(STEPS, checkpoint_every=CUT * BATCH), first)


def resumed(rank: int, folder: Path) -> None:
    state = fresh(seed=50 + rank)
    last = checkpoints.latest(folder / "cut")
    assert last is not None
    checkpoints.load_state(last, state)
    fit(state, stream(state.images, rank=rank, world=WORLD), plan(STEPS), Diary())
    checkpoints.save(folder / f"resumed-{rank}", state, {})


def damaged(rank: int, folder: Path) -> None:
    """Only the second process meets images that are not finite, in its share of the second step."""
    state, diary = fresh(), Diary()
    batches = stream(rank=rank, world=WORLD, damaged={BATCH + 1}.__contains__)
    fit(state, batches, plan(STEPS), diary)
    checkpoints.save(folder / f"damaged-{rank}", state, {"skips": diary.skips})


def summed(rank: int, folder: Path) -> None:
    total = parallel.summed(torch.tensor([1.0 + rank, 10.0])).tolist()
    found = {"sum": total, "rank": parallel.rank(), "world": parallel.world()}
    (folder / f"summed-{rank}.json").write_text(json.dumps(found))


def adapted(rank: int, folder: Path) -> None:
    """Shares of 4 and 3 samples of a model that adapts, with a power average."""
    state, diary = odd(), Diary()
    fit(state, stream(batch=7, rank=rank, world=WORLD), plan(9, batch=7, peak=1e-4), diary)
    checkpoints.save(folder / f"adapted-{rank}", state, {"metrics": diary.logged[0][1]})


def odd() -> TrainState:
    return fresh(stds=(0.1,), make=adapting, channels=8)


def gathered(rank: int, folder: Path) -> None:
    places = torch.arange(rank, 5, WORLD)
    mine = {"b": places.float() / 3, "a": places.double() / 7}
    whole = parallel.gathered(mine, places, 5)
    (folder / f"gathered-{rank}.json").write_text(json.dumps({name: of.tolist() for name, of in whole.items()}))


TASKS = {
    "adapted": adapted,
    "gathered": gathered,
    "through": through,
    "resumed": resumed,
    "damaged": damaged,
    "summed": summed,
}


def run(folder: Path, *tasks: str) -> None:
    mp.spawn(worker, (str(folder), tasks), nprocs=WORLD)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    state = fresh(seed=5)
    checkpoints.load_state(checkpoints.read(folder), state)
    return state.tensors()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes left, and what two others left that went on from there."""
    folder = tmp_path_factory.mktemp("two")
    run(folder, "through", "damaged", "summed", "adapted", "gathered")
    run(folder, "resumed")
    return folder


def test_both_processes_end_with_the_same_weights(two: Path) -> None:
    ours, theirs = tensors(two / "whole-0"), tensors(two / "whole-1")
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def test_two_processes_train_as_one_at_the_same_global_batch(two: Path) -> None:
    one, diary = fresh(), Diary()
    fit(one, stream(), plan(STEPS), diary)
    ours, theirs = one.tensors(), tensors(two / "whole-0")
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(theirs[name], value, rtol=1e-5, atol=1e-5)
    assert checkpoints.read(two / "whole-0").model["loss"] == pytest.approx(diary.logged[0][1]["loss"], rel=1e-5)
    assert theirs["counters/images"] == STEPS * BATCH


def test_two_processes_resume_bit_for_bit(two: Path) -> None:
    whole, again = tensors(two / "whole-0"), tensors(two / "resumed-0")
    assert [name for name in whole if not torch.equal(whole[name], again[name])] == []


def test_processes_agree_on_steps_that_are_not_finite(two: Path) -> None:
    """One process's damaged image skips the step on both, and only that step."""
    ours, theirs = tensors(two / "damaged-0"), tensors(two / "damaged-1")
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    assert all(bool(torch.isfinite(value).all()) for value in ours.values())
    assert (ours["counters/images"], ours["counters/ema_updates"]) == (STEPS * BATCH, STEPS - 1)
    assert checkpoints.read(two / "damaged-0").model["skips"] == [[2 * BATCH, []]]
    assert checkpoints.read(two / "damaged-1").model["skips"] == [[2 * BATCH, [BATCH + 1]]]


def test_a_model_adapts_alike_on_any_number_of_processes(two: Path) -> None:
    """To the bit on both of them; and as one process to the rounding of its losses, which are noted in the same places."""
    states = [odd() for _ in range(WORLD)]
    for rank, state in enumerate(states):
        checkpoints.load_state(checkpoints.read(two / f"adapted-{rank}"), state)
    assert differing(*states) == []
    one, diary = odd(), Diary()
    fit(one, stream(batch=7), plan(9, batch=7, peak=1e-4), diary)
    ours, theirs = one.tensors(), states[0].tensors()
    assert torch.equal(ours["model/parts.times.seen"], theirs["model/parts.times.seen"])
    assert ours["model/parts.times.seen"].sum() == 63
    for name, value in ours.items():
        torch.testing.assert_close(theirs[name], value, rtol=1e-4, atol=1e-5)
    found = checkpoints.read(two / "adapted-0").model["metrics"]
    for name in found.keys() - {"images_per_second"}:
        assert found[name] == pytest.approx(diary.logged[0][1][name], rel=1e-4)


def test_terms_are_gathered_to_the_bit_in_their_places_and_types(two: Path) -> None:
    expected = {"a": [n / 7 for n in range(5)], "b": (torch.arange(5).float() / 3).tolist()}
    for rank in range(WORLD):
        assert json.loads((two / f"gathered-{rank}.json").read_text()) == expected
    alone = parallel.gathered({"x": torch.tensor([2.0, 1.0])}, torch.tensor([1, 0]), 2)
    assert alone["x"].tolist() == [1.0, 2.0]
    assert alone["x"].dtype == torch.float32


def test_sums_go_over_all_processes(two: Path) -> None:
    found = [json.loads((two / f"summed-{rank}.json").read_text()) for rank in range(WORLD)]
    assert found == [{"sum": [3.0, 20.0], "rank": rank, "world": WORLD} for rank in range(WORLD)]
    assert parallel.summed(torch.tensor([2.0])).tolist() == [2.0]
    assert (parallel.rank(), parallel.world()) == (0, 1)
