"""The smallest recipe of every method: its model, sample and bound sections. A cascade is put together of others."""

from __future__ import annotations

from typing import Any

VE_BOUND = {"last": 5e-4}

SMALLEST: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "ddpm": ({}, {}, {}),
    "improved_ddpm": ({}, {"sampler": "ancestral"}, {}),
    "guided": ({}, {}, {}),
    "clip_guided": ({}, {}, {}),
    "ncsn": ({}, {"sampler": "annealed_langevin", "steps": 10}, {}),
    "ncsnv2": ({"levels": 12}, {"sampler": "annealed_langevin", "steps": 12}, {}),
    "score_sde": ({}, {"sampler": "predictor_corrector"}, {}),
    "cld": ({}, {"sampler": "sscs", "last": 1e-3}, {"kind": "flow"}),
    "edm": ({}, {"sampler": "heun", "grid": "karras"}, VE_BOUND),
    "edm2": ({}, {"sampler": "heun", "grid": "karras"}, VE_BOUND),
    "vdm": ({}, {}, {"kind": "continuous"}),
    "rectified": ({}, {"sampler": "heun"}, {}),
    "autoencoder": ({}, {"sampler": "own"}, {"kind": "latent"}),
    "vae": ({}, {"sampler": "own"}, {"kind": "latent"}),
    "ardm": ({}, {"sampler": "autoregressive"}, {"kind": "orders"}),
}
ALL = SMALLEST | {"cascade": ({"base": "small", "stages": ["large"]}, {"sampler": "stages"}, {})}


def sections(method: str, **changes: Any) -> dict[str, Any]:
    """{"model": ..., "sample": ..., "bound": ...} with changes by "section.field"; "sample" and "bound" replace a section."""
    model, sample, bound = ALL[method]
    found = {"model": {"method": method, **model}, "sample": dict(sample), "bound": dict(bound)}
    for place, value in changes.items():
        *path, field = place.split(".")
        section: Any = found
        for part in path:
            section = section.setdefault(part, {})
        section[field] = value
    return found
