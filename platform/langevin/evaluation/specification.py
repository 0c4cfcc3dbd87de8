"""What a measurement was made with. Results of different specs are never compared; the hash says which is which."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from langevin.evaluation import inception, judge, kid, neighbours

FORMULAS = (
    f"torch-fidelity 0.4.0; KID: {kid.SUBSETS} subsets of min({kid.SUBSET_LIMIT}, n/2); "
    f"inception score: {inception.SPLITS} splits; precision, recall: k = {neighbours.NEIGHBOURS}; "
    f"density, coverage: k = {neighbours.DENSITY_NEIGHBOURS}; intervals by influence"
)
NESTED = ("sampling", "others")


@dataclass(frozen=True)
class MetricSpec:
    """Everything but the model that moves a figure.

    extractor, extractor_sha256, extractor_accuracy: whose features; reference_split, reference_n: the real images;
    dataset_digest: of which data; generated_n, seed: the samples; quantisation: how floats became bytes, in a sentence;
    sampling: the sampler's settings; resize: the kernel, or "none"; judge, formulas: which ones; others: the sha256 of
    further networks that look at the samples, by name.
    """

    extractor: str
    extractor_sha256: str
    extractor_accuracy: float | None
    reference_split: str
    reference_n: int
    dataset_digest: str
    generated_n: int
    seed: int
    quantisation: str
    sampling: Mapping[str, Any] = field(default_factory=dict)
    resize: str = "none"
    judge: str = judge.NAME
    formulas: str = FORMULAS
    others: Mapping[str, str] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """12 hexadecimal digits of the sha256 of the spec's canonical JSON, without others where there are none."""
        fields = {name: value for name, value in asdict(self).items() if name != "others" or value}
        canonical = json.dumps(plain(fields), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    def differences(self, other: MetricSpec) -> dict[str, tuple[Any, Any]]:
        """The fields that differ, with both values; settings of the sampler as ``sampling.NAME``, networks as
        ``others.NAME``.
        """
        ours, theirs = _flat(plain(asdict(self))), _flat(plain(asdict(other)))
        names = sorted(ours.keys() | theirs.keys())
        return {name: (ours.get(name), theirs.get(name)) for name in names if ours.get(name) != theirs.get(name)}


def plain(value: Any) -> Any:
    """The value as JSON holds it, floats to 6 significant digits, so that files are stable."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value


def _flat(fields: Mapping[str, Any]) -> dict[str, Any]:
    nested = {f"{name}.{key}": value for name in NESTED for key, value in fields[name].items()}
    return {name: value for name, value in fields.items() if name not in NESTED} | nested
