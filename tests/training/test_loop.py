"""The loop: gradients, readings, interruption and numbers that are not finite."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from langevin.errors import NumericsError
from langevin.methods.gaussian import GaussianDiffusion
from langevin.protocols import Batch, Losses
from langevin.randomness import Keys
from langevin.training import checkpoint as checkpoints
from langevin.training.loop import PATIENCE, Plan, fit
from langevin.training.optimiser import Constant, Cosine, LearningRate
from langevin.training.state import TrainState
from langevin.training.validation import validation_loss

from .example import BATCH, CutOffError, Diary, adapting, batch_of, differing, fresh, model, plan, stream


def method(state: TrainState) -> Any:
    return state.model


def averaged(state: TrainState) -> Any:
    return state.ema.model


def flat(state: TrainState) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in state.model.parameters()])


def test_resumed_is_uninterrupted_bit_for_bit(tmp_path: Path) -> None:
    """Weights, average, moments and counters; the second process starts from other random weights."""
    steps = plan(12, checkpoint_every=5 * BATCH)
    whole = fresh()
    fit(whole, stream(), steps, Diary())

    with pytest.raises(CutOffError):
        fit(fresh(), stream(), steps, Diary(tmp_path, until=5 * BATCH))
    resumed = fresh(seed=99)
    assert differing(whole, resumed) != []
    last = checkpoints.latest(tmp_path)
    assert last is not None
    checkpoints.load_state(last, resumed)
    assert resumed.images == 5 * BATCH
    fit(resumed, stream(start=resumed.images), steps, Diary())
    assert differing(whole, resumed) == []
    assert resumed.images == whole.images == 12 * BATCH


def test_resumed_is_uninterrupted_with_power_averages_and_a_model_that_adapts(tmp_path: Path) -> None:
    """Every average with its own counter, and statistics of the losses that decide where training looks."""
    steps = plan(18, checkpoint_every=12 * BATCH)
    whole = fresh(stds=(0.05, 0.2), make=adapting)
    fit(whole, stream(), steps, Diary())
    names = whole.tensors()
    assert {"counters/power/0.05", "counters/power/0.2", "model/parts.times.losses"} <= names.keys()
    shares = method(whole).parts["times"].probabilities()
    assert (shares - 0.25).abs().max() > 0.01  # it has looked elsewhere than at first

    with pytest.raises(CutOffError):
        fit(fresh(stds=(0.05, 0.2), make=adapting), stream(), steps, Diary(tmp_path, until=12 * BATCH))
    resumed = fresh(seed=99, stds=(0.05, 0.2), make=adapting)
    last = checkpoints.latest(tmp_path)
    assert last is not None
    checkpoints.load_state(last, resumed)
    assert (method(resumed).parts["times"].probabilities() - 0.25).abs().max() > 0
    fit(resumed, stream(start=resumed.images), steps, Diary())
    assert differing(whole, resumed) == []
    assert [power.images for power in resumed.powers] == [18 * BATCH] * 2


def test_power_averages_move_no_weights() -> None:
    plain, tracked = fresh(), fresh(stds=(0.05, 0.2))
    fit(plain, stream(), plan(4), Diary())
    fit(tracked, stream(), plan(4), Diary())
    assert {name.split("/")[0] for name in differing(plain, tracked)} == {"power", "counters"}
    assert not any(name.startswith("counters") and "power" not in name for name in differing(plain, tracked))


def test_a_model_that_adapts_is_told_the_terms_of_every_step_that_counts() -> None:
    """In the order of the ordinals, with their types; not those of a step that was skipped."""
    state = fresh(make=adapting)
    told: list[tuple[torch.Tensor, dict[str, torch.Tensor]]] = []
    method(state).adapt = lambda ordinals, terms: told.append((ordinals, dict(terms)))
    still = replace(plan(4), learning_rate=LearningRate(0.0, 0, Constant()))
    fit(state, stream(damaged={BATCH}.__contains__), still, Diary())
    assert [ordinals.tolist() for ordinals, _ in told] == [list(range(n * BATCH, (n + 1) * BATCH)) for n in (0, 2, 3)]
    for ordinals, terms in told:
        expected = method(state).loss(batch_of(ordinals), Keys(11, ordinals)).terms
        assert terms.keys() == expected.keys() >= {"time", "vlb"}
        assert all(terms[name].dtype == value.dtype for name, value in expected.items())
        torch.testing.assert_close(terms, dict(expected), rtol=1e-5, atol=1e-6)


def test_the_terms_of_the_loss_are_logged_beside_it() -> None:
    """As means over the images; not the time, which is no part of it. A loss without terms has none."""
    state, diary = fresh(make=adapting), Diary()
    still = replace(plan(3), learning_rate=LearningRate(0.0, 0, Constant()))
    method(state).adapt = lambda ordinals, terms: None
    fit(state, stream(), still, diary)
    found = diary.logged[-1][1]
    ordinals = torch.arange(3 * BATCH)
    terms = method(state).loss(batch_of(ordinals), Keys(11, ordinals)).terms
    assert found.keys() == terms.keys() - {"time"} | {"loss", "gradient_norm", "images_per_second", "lr"}
    for name in terms.keys() - {"time"}:
        assert found[name] == pytest.approx(terms[name].double().mean().item(), rel=1e-5)
    plain = Diary()
    fit(fresh(), stream(), plan(1), plain)
    assert plain.logged[0][1].keys() == {"loss", "gradient_norm", "images_per_second", "lr"}


def test_a_training_is_a_function_of_its_plan_and_its_data() -> None:
    first, second = fresh(), fresh()
    fit(first, stream(), plan(4), Diary())
    torch.manual_seed(1234)  # the global generator has no say
    fit(second, stream(), plan(4), Diary())
    assert differing(first, second) == []


def test_training_learns() -> None:
    """In 100 steps the loss on other images falls by a third, in the raw weights and in their average."""
    state, others = fresh(), batch_of(torch.arange(100_000, 100_060))
    before = validation_loss(method(state), others, seed=1)
    diary = Diary()
    fit(state, stream(batch=16), plan(100, batch=16, peak=1e-2, log_every=16 * 5), diary)
    assert validation_loss(method(state), others, seed=1) < 0.67 * before
    assert validation_loss(averaged(state), others, seed=1) < 0.67 * before
    assert diary.logged[-1][1]["loss"] < 0.67 * diary.logged[0][1]["loss"]


def test_a_step_goes_down_the_gradient_of_the_mean_loss() -> None:
    """With plain gradient descent: w - lr grad, lr the one of the images seen before, grad clipped in its norm."""
    for clip in (1e9, 1e-3):
        state = fresh()
        state.optimiser = torch.optim.SGD(state.model.parameters(), lr=123.0)
        before = flat(state)
        method(state).loss(batch_of(torch.arange(BATCH)), Keys.range(11, 0, BATCH)).total.mean().backward()
        parameters = list(state.model.parameters())
        gradient = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
        rate = LearningRate(0.1, 0, Cosine(10 * BATCH))
        once = Plan(BATCH, BATCH, 11, rate, clip, BATCH, BATCH, BATCH)
        diary = Diary()
        fit(state, stream(), once, diary)
        norm = float(gradient.norm())
        expected = before - 0.1 * gradient * min(1, clip / norm)
        torch.testing.assert_close(flat(state), expected, rtol=1e-4, atol=1e-8)
        assert diary.logged[0][1]["gradient_norm"] == pytest.approx(norm, rel=1e-4)
        assert diary.logged[0][1]["lr"] == 0.1


def test_each_step_has_the_rate_of_the_images_before_it() -> None:
    state, diary = fresh(), Diary()
    steps = plan(10, log_every=BATCH)
    fit(state, stream(), steps, diary)
    expected = [steps.learning_rate(seen) for seen in range(0, 10 * BATCH, BATCH)]
    assert [metrics["lr"] for _, metrics in diary.logged] == expected
    assert state.optimiser.param_groups[0]["lr"] == expected[-1] != expected[0]


def test_things_happen_when_their_images_have_passed_and_at_the_end() -> None:
    diary, state = Diary(), fresh()
    fit(state, stream(), plan(13, log_every=30, validate_every=8, checkpoint_every=50), diary)
    assert [images for images, _ in diary.logged] == [32, 64, 96, 104]
    assert diary.validated == list(range(8, 105, 8))
    assert diary.saved == [56, 104]
    assert diary.kept == []
    assert state.images == 104


def test_a_snapshot_is_kept_before_the_checkpoint_of_its_images() -> None:
    """A kill between the two must not lose it: training goes on from the checkpoint."""
    diary, order = Diary(), []
    diary.snapshot = lambda state: order.append(("snapshot", state.images))  # type: ignore[method-assign]
    diary.checkpoint = lambda state: order.append(("checkpoint", state.images))  # type: ignore[method-assign]
    fit(fresh(stds=(0.1,)), stream(), plan(5, checkpoint_every=2 * BATCH, snapshot_every=2 * BATCH), diary)
    assert order == [(what, n * BATCH) for n in (2, 4, 5) for what in ("snapshot", "checkpoint")]


def test_a_finished_training_is_left_as_it_is() -> None:
    state, diary = fresh(), Diary()
    state.images = 8 * BATCH
    fit(state, iter(()), plan(8), diary)
    assert differing(state, fresh()) == ["counters/images"]
    assert (diary.logged, diary.validated, diary.saved) == ([], [], [])


def test_readings_are_means_over_the_images_since_the_last() -> None:
    """With a rate of zero the weights stay, so that each step's loss can be computed again."""
    state, diary = fresh(), Diary()
    still = Plan(6 * BATCH, BATCH, 11, LearningRate(0.0, 0, Constant()), 1.0, 3 * BATCH, 6 * BATCH, 6 * BATCH)
    fit(state, stream(), still, diary)
    for (images, metrics), start in zip(diary.logged, (0, 3 * BATCH), strict=True):
        ordinals = torch.arange(start, start + 3 * BATCH)
        losses = method(state).loss(batch_of(ordinals), Keys(11, ordinals)).total.detach()
        assert images == start + 3 * BATCH
        assert metrics["loss"] == pytest.approx(float(losses.mean()), rel=1e-5)
        assert metrics["images_per_second"] > 0


def test_a_step_that_is_not_finite_changes_nothing_and_is_reported() -> None:
    """As if the rate, the moments and the average had never met these images."""
    diary, state = Diary(), fresh()
    fit(state, stream(), plan(3), diary)
    before = {name: value.clone() for name, value in state.tensors().items()}
    longer = plan(5)
    bad = {3 * BATCH + 2, 3 * BATCH + 5}
    with pytest.raises(CutOffError):
        fit(state, stream(3 * BATCH, damaged=bad.__contains__), longer, StopsAfterSkip(diary))
    after = state.tensors()
    assert diary.skips == [(4 * BATCH, sorted(bad))]
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    assert moved == {"counters/images"}
    assert state.images == 4 * BATCH


class StopsAfterSkip(Diary):
    def __init__(self, diary: Diary) -> None:
        super().__init__(skips=diary.skips)

    def skipped(self, images: int, ordinals: list[int]) -> None:
        super().skipped(images, ordinals)
        raise CutOffError


def test_training_goes_on_after_a_step_that_is_not_finite() -> None:
    state, diary = fresh(), Diary()
    fit(state, stream(damaged={BATCH}.__contains__), plan(6), diary)
    assert [images for images, _ in diary.skips] == [2 * BATCH]
    assert state.images == 6 * BATCH
    assert all(bool(torch.isfinite(value).all()) for value in state.tensors().values())
    assert state.ema.updates == 5


def test_patience_ends() -> None:
    """PATIENCE steps in a row are an error that says where, one less is not."""

    def damaged_for(steps: int) -> range:
        return range(2 * BATCH, (2 + steps) * BATCH)

    fit(fresh(), stream(damaged=damaged_for(PATIENCE - 1).__contains__), plan(9), Diary())
    diary = Diary()
    with pytest.raises(NumericsError, match=f"{PATIENCE} steps in a row, the last after {(2 + PATIENCE) * BATCH}"):
        fit(fresh(), stream(damaged=damaged_for(PATIENCE).__contains__), plan(9), diary)
    assert len(diary.skips) == PATIENCE


def test_a_good_step_renews_patience() -> None:
    def damaged(ordinal: int) -> bool:
        return (ordinal // BATCH) % PATIENCE != 0  # PATIENCE - 1 of PATIENCE steps, again and again

    diary = Diary()
    fit(fresh(), stream(damaged=damaged), plan(3 * PATIENCE), diary)
    assert len(diary.skips) == 3 * (PATIENCE - 1)


def test_validation_reads_the_same_twice_and_differs_by_seed() -> None:
    state, batch = fresh(), batch_of(torch.arange(500, 532))
    fit(state, stream(), plan(3), Diary())
    first = validation_loss(method(state), batch, seed=1)
    torch.manual_seed(5)
    assert validation_loss(method(state), batch, seed=1) == first
    assert validation_loss(method(state), batch, seed=2) != first


def test_validation_is_the_mean_over_its_rounds() -> None:
    """Round r takes the keys of the r-th batch after: no image meets the same noise twice."""
    state, batch = fresh(), batch_of(torch.arange(20))
    fit(state, stream(), plan(3), Diary())
    with torch.no_grad():
        losses = [method(state).loss(batch, Keys.range(1, r * 20, r * 20 + 20)).total.mean() for r in range(3)]
    assert len(set(map(float, losses))) == 3
    expected = float(torch.stack(losses).double().mean())
    assert validation_loss(method(state), batch, 1, rounds=3) == pytest.approx(expected, rel=1e-6)


def test_a_batch_in_parts_has_the_gradient_of_the_whole() -> None:
    """Parts of which the last is smaller; statistics of the losses are those of the whole batch."""
    for make in (model, adapting):
        whole, parted = fresh(make=make), fresh(make=make)
        for state, accumulate in ((whole, 1), (parted, 3)):
            fit(state, stream(), replace(plan(6), accumulate=accumulate), Diary())
        torch.testing.assert_close(flat(parted), flat(whole), rtol=0, atol=2e-4)
        for name, tensor in whole.tensors().items():
            if "times" in name:
                torch.testing.assert_close(parted.tensors()[name], tensor, rtol=1e-3, atol=1e-5)


def test_each_sample_of_a_part_keeps_its_own_randomness() -> None:
    seen: list[int] = []
    state, loss = fresh(), GaussianDiffusion.loss

    class Watched(GaussianDiffusion):
        def loss(self, batch: Batch, keys: Keys) -> Losses:
            assert torch.equal(keys.ordinals, batch.ordinals)
            seen.extend(keys.ordinals.tolist())
            return loss(self, batch, keys)

    method(state).__class__ = Watched
    fit(state, stream(), replace(plan(2), accumulate=5), Diary())
    assert seen == list(range(2 * BATCH))


def test_bf16_is_what_networks_multiply_in_and_nothing_else() -> None:
    """Weights, their gradients, averages and losses stay float32; the way is that of float32 to bf16's three digits."""
    formats: set[torch.dtype] = set()
    states = {}
    for precision in ("fp32", "bf16"):
        states[precision] = state = fresh()
        inner = next(layer for layer in state.model.modules() if isinstance(layer, torch.nn.Conv2d))
        inner.register_forward_hook(lambda layer, given, out: formats.add(out.dtype))
        diary = Diary()
        fit(state, stream(), replace(plan(4), precision=precision), diary)
        assert {part.dtype for part in state.tensors().values()} <= {torch.float32, torch.float64, torch.int64}
        assert {part.grad.dtype for part in state.model.parameters() if part.grad is not None} == {torch.float32}
    assert formats == {torch.float32, torch.bfloat16}
    away = flat(states["bf16"]) - flat(states["fp32"])
    moved = flat(states["fp32"]) - flat(fresh())
    assert 0 < float(away.norm()) < 0.3 * float(moved.norm())


def test_resumed_in_bf16_is_uninterrupted_bit_for_bit(tmp_path: Path) -> None:
    steps = replace(plan(8, checkpoint_every=4 * BATCH), precision="bf16", accumulate=2)
    whole = fresh()
    fit(whole, stream(), steps, Diary())
    with pytest.raises(CutOffError):
        fit(fresh(), stream(), steps, Diary(tmp_path, until=4 * BATCH))
    resumed = fresh(seed=99)
    last = checkpoints.latest(tmp_path)
    assert last is not None
    checkpoints.load_state(last, resumed)
    fit(resumed, stream(start=resumed.images), steps, Diary())
    assert differing(whole, resumed) == []
