"""Guidance away from a text: what it is in formulas, in every method that reads and in everything around one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from langevin.config.assembly import assembled
from langevin.config.sampling import Sample
from langevin.data.records import as_captions
from langevin.diffusion.guidance import for_each
from langevin.networks.upsampler import LowResolution
from langevin.protocols import Samples
from langevin.randomness import Keys

from .examples import LEVELS, NETWORK, SHAPE

KEYS, PROMPT, OTHER = Keys.range(3, 0, 3), "ein roter Würfel", "b"
TEXT = {"width": 8, "layers": 1, "heads": 2, "length": 20}
DATA = {"shape": list(SHAPE), "classes": ["a", "b"], "levels": LEVELS, "captions": True}
DIT = {"kind": "dit", "patch": 2, "width": 16, "depth": 1, "heads": 2}
CODEC = {
    "model": {"method": "autoencoder", "network": {"channels": 8, "multipliers": [1, 2], "latent_channels": 2}},
    "sample": {"sampler": "own"}, "bound": {"kind": "latent"}, "data": DATA,
}  # fmt: skip
LADDER = {"sampler": "annealed_langevin", "steps": 5, "threshold": "static"}

# name: the description's sections model and sample, and others
MODELS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "ddpm": ({"prediction": "velocity"}, {}, {}),
    "ddpm in an interval": ({"prediction": "velocity"}, {"guidance_interval": [0.1, 5.0]}, {}),
    "ddpm of dynamic threshold": ({"prediction": "velocity"}, {"threshold": "dynamic"}, {}),
    "improved_ddpm": ({}, {"sampler": "ancestral"}, {}),
    "edm": ({"network": DIT}, {"sampler": "heun"}, {}),
    "ncsn": ({"levels": 5}, LADDER, {}),
    "vdm": ({"fourier": [3]}, {}, {"bound": {"kind": "continuous"}}),
    "cld": ({}, {"sampler": "sscs", "last": 1e-3, "threshold": "static"}, {"bound": {"kind": "flow", "calls": 8}}),
    "rectified of latents": ({}, {}, {"codec": CODEC, "bound": {"kind": "continuous"}}),
    "ddpm from 4 pixels": ({"prediction": "velocity"}, {}, {"upsampling": {"lower": 4}}),
}
every = pytest.mark.parametrize("name", MODELS)


def made(name: str, **sample: Any) -> Any:
    """The model with random weights everywhere, the same whatever its sampling."""
    model, drawn, others = MODELS[name]
    said = {
        "model": {"method": name.split()[0], "network": NETWORK, "condition": "caption", "text": TEXT, **model},
        "sample": {"steps": 4, "threshold": "none", **drawn}, "bound": {}, "data": DATA, **others,
    }  # fmt: skip
    torch.manual_seed(0)
    asked = Sample.model_validate_json(json.dumps(said["sample"] | sample))
    method = assembled(said, asked)
    assert isinstance(method, Samples)
    with torch.no_grad():
        for parameter in method.parameters():
            if not parameter.any():
                parameter.copy_(0.1 * torch.randn(parameter.shape))
    return method.eval()


@torch.no_grad()
def drawn(method: Any, *prompts: str, keys: Keys = KEYS) -> Tensor:
    """The walk's end, which is not clamped."""
    cond: Any = as_captions(prompts)
    if hasattr(method.inner, "augmentation"):
        small = torch.linspace(-1, 1, 16).reshape(1, 1, 4, 4).expand(len(prompts), -1, -1, -1)
        cond = LowResolution(small, torch.zeros(len(prompts)), cond)
    return list(method.walk(keys, cond))[-1]


@every
@pytest.mark.parametrize("scale", [0.0, 2.5, -1.0])
def test_away_from_the_prompt_itself_there_is_nowhere_to_go(name: str, scale: float) -> None:
    """D_c + scale (D_c - D_c) = D_c: what the scale 1 gives, whatever the scale is."""
    interval = {"guidance_interval": None} if "interval" in name else {}
    plain = drawn(made(name, **interval), *[PROMPT] * 3)
    assert torch.equal(drawn(made(name, guidance=scale, negative=PROMPT), *[PROMPT] * 3), plain)
    assert not torch.allclose(drawn(made(name, guidance=2.5, **interval), *[PROMPT] * 3), plain, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in MODELS if "interval" not in name])  # outside of it the prompt counts
def test_prompt_and_negative_change_places(name: str) -> None:
    """D_n + s (D_p - D_n) = D_p + (1 - s) (D_n - D_p)."""
    one, other = made(name, guidance=1.7, negative=OTHER), made(name, guidance=1 - 1.7, negative=PROMPT)
    torch.testing.assert_close(drawn(one, *[PROMPT] * 3), drawn(other, *[OTHER] * 3), rtol=1e-3, atol=1e-3)


@every
def test_a_negative_matters_and_an_empty_one_is_none(name: str) -> None:
    none, empty, some = (made(name, guidance=2.0, negative=text) for text in (None, "", OTHER))
    base = drawn(none, PROMPT, OTHER, "c")
    assert torch.equal(drawn(empty, PROMPT, OTHER, "c"), base)
    assert not torch.allclose(drawn(some, PROMPT, OTHER, "c"), base, atol=1e-4)


def test_the_caption_of_no_byte_leads_away_from_no_text() -> None:
    method = made("ddpm", guidance=2.0)
    base = drawn(method, PROMPT, OTHER, "c")
    method.inner.sampling = replace(method.inner.sampling, negative=as_captions([""]))
    assert torch.equal(drawn(method, PROMPT, OTHER, "c"), base)


@every
def test_a_sample_does_not_depend_on_its_batch(name: str) -> None:
    method = made(name, guidance=2.0, negative=OTHER)
    whole = drawn(method, PROMPT, OTHER, "c")
    part = drawn(method, "c", PROMPT, keys=Keys(3, torch.tensor([2, 0])))
    assert torch.equal(part, whole[[2, 0]])


def test_one_row_is_every_samples() -> None:
    x = torch.zeros(3, 1, 2, 2)
    assert for_each(None, x) is None
    assert for_each(torch.tensor([[1, 2]]), x).tolist() == [[1, 2]] * 3
    assert for_each(torch.tensor([4, 5, 6]), x).tolist() == [4, 5, 6]


def test_specs_and_requests_without_a_negative_say_nothing_of_it() -> None:
    """Frozen: hashes of before there was any."""
    plain = Sample().plain()
    assert list(plain) == ["sampler", "steps", "grid", "last", "eta", "guidance", "guidance_interval", "threshold"]
    assert Sample(negative="").plain() == plain
    some = Sample(negative=OTHER, guidance=2.0)
    assert some.plain()["negative"] == OTHER
    assert Sample.model_validate_json(json.dumps(some.plain())) == some
