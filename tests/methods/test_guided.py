"""ADM-G: a denoiser without classes and a classifier, trained side by side and joined where it samples."""

from __future__ import annotations

import pytest
import torch

from langevin.diffusion.guidance import ClassPotential, GradientGuided, gradient
from langevin.diffusion.kernels import ancestral_variance
from langevin.diffusion.samplers import DDIM, Ancestral, GuidedAncestral
from langevin.protocols import Batch
from langevin.randomness import Keys, Noise

from .examples import SHAPE, batch, made, recording

KEYS, LABELS = Keys.range(3, 0, 3), torch.tensor([1, 4, 9])
T, S = (torch.tensor(t, dtype=torch.float64) for t in (0.6, 0.4))


def test_the_loss_is_the_sum_of_two_that_share_nothing() -> None:
    method, data = made("guided"), batch(0, 8)
    losses = method.loss(data, Keys.range(5, 0, 8))
    torch.testing.assert_close(losses.total, losses.terms["denoising"] + losses.terms["classifier"])
    other = Batch(data.images, (data.labels + 1) % 10, data.ordinals, data.keys)
    changed = method.loss(other, Keys.range(5, 0, 8))
    assert torch.equal(changed.terms["denoising"], losses.terms["denoising"])  # it sees no class
    assert not torch.allclose(changed.terms["classifier"], losses.terms["classifier"])
    ours = {id(p) for p in method.denoiser.parameters()}
    assert ours.isdisjoint({id(p) for p in method.parts["classifier"].parameters()})


def test_the_classifier_learns_at_every_noise_level_and_not_with_the_denoisers_noise() -> None:
    method = made("guided")
    told = []
    method.parts["classifier"].register_forward_pre_hook(lambda _, inputs: told.append(inputs))
    recorder = recording(method)
    zeros = Batch(torch.zeros(500, *SHAPE), torch.arange(500) % 10, torch.arange(500), tuple(map(str, range(500))))
    method.loss(zeros, Keys.range(5, 0, 500))
    (x, t), (its_x, its_t, cond) = told[0], recorder.told[0]
    assert cond is None or bool((cond == -1).all())
    assert float(t.mean()) == pytest.approx(0.5, abs=4 / (12 * 500) ** 0.5)
    assert 0 <= float(t.min()) < 0.05 < 0.95 < float(t.max()) <= 1
    sigma = method.denoiser.schedule(t.double()).sigma[:, None, None, None]
    assert float((x / sigma)[t > 0.1].var()) == pytest.approx(1, abs=0.05)
    both = (t > 0.1) & (its_t > 0.1)
    theirs = its_x / method.denoiser.schedule(its_t.double()).sigma[:, None, None, None]
    agreement = torch.corrcoef(torch.stack([(x / sigma)[both].flatten(), theirs[both].flatten()]))[0, 1]
    assert abs(float(agreement)) < 0.03


def test_ancestral_steps_move_the_mean_by_variance_times_gradient() -> None:
    """Dhariwal & Nichol 2021, algorithm 1."""
    method = made("guided", guidance=2.5, threshold="none")
    model, sampler = method.drawn_by()
    assert isinstance(sampler, GuidedAncestral)
    assert model.network.network is method.denoiser.network  # in blocks, and unguided
    x = Noise(KEYS).normal("x", torch.empty(3, *SHAPE))
    plain = Ancestral(sampler.variance)(model, x, T, S, LABELS, Noise(KEYS))
    variance = ancestral_variance(model.schedule(S), model.schedule(T))
    slope = gradient(ClassPotential(method.parts["classifier"]), x, T, LABELS)
    expected = plain + 2.5 * variance.float() * slope
    with torch.no_grad():
        torch.testing.assert_close(sampler(model, x, T, S, LABELS, Noise(KEYS)), expected, rtol=1e-4, atol=1e-5)
    assert float(slope.abs().max()) > 1e-3


def test_other_samplers_meet_a_denoiser_whose_score_is_moved() -> None:
    """Dhariwal & Nichol 2021, algorithm 2: eps - sigma x scale x gradient."""
    method = made("guided", sample={"sampler": "ddim", "guidance": 2.5, "threshold": "none"})
    model, sampler = method.drawn_by()
    assert (type(model), sampler) == (GradientGuided, DDIM())
    x, level = Noise(KEYS).normal("x", torch.empty(3, *SHAPE)), method.denoiser.schedule(T)
    slope = gradient(ClassPotential(method.parts["classifier"]), x, T, LABELS)
    with torch.no_grad():
        expected = method.denoiser(x, T).eps(x, level) - level.sigma.float() * 2.5 * slope
        torch.testing.assert_close(model(x, T, LABELS).eps(x, level), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sampler", ["ancestral", "ddim"])
def test_scale_0_and_no_class_are_the_unguided_model(sampler: str) -> None:
    off = made("guided", sample={"sampler": sampler, "guidance": 0.0})
    on = made("guided", sample={"sampler": sampler, "guidance": 3.0})
    expected = off.sample(KEYS, torch.zeros(3, dtype=torch.int64))
    torch.testing.assert_close(off.sample(KEYS, LABELS), expected)
    torch.testing.assert_close(on.sample(KEYS, torch.full((3,), -1)), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(on.sample(KEYS, LABELS), expected, atol=1e-3)


def test_the_bound_is_the_unconditional_models() -> None:
    method, data = made("guided"), batch(0, 3)
    other = Batch(data.images, (data.labels + 1) % 10, data.ordinals, data.keys)
    assert torch.equal(method.bound(data, KEYS).total, method.bound(other, KEYS).total)


@pytest.mark.parametrize("sampler", ["ancestral", "ddim"])
def test_guidance_costs_one_gradient_of_the_classifier_a_step(sampler: str) -> None:
    method, calls = made("guided", sample={"sampler": sampler, "guidance": 2.0}), []
    method.parts["classifier"].register_forward_pre_hook(lambda *_: calls.append(1))
    recorder = recording(method)
    method.sample(KEYS, LABELS)
    assert (len(recorder.told), len(calls)) == (5, 5)
