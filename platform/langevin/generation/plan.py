"""What is to be generated, cut into units of work. Everything that decides a byte of the output is in the request."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from langevin.errors import ConfigError
from langevin.generation.asked import Asked, Labels, Prompts

BALANCED = "balanced"


@dataclass(frozen=True)
class Request:
    """A batch job. Sample i depends on (checkpoint, sampling, seed, i, its label or prompt) alone.

    model: an exact version, "models:/NAME/3"; classes, levels: of the data it was trained on; labels: "balanced", which
    cycles through the classes, or the names to cycle through; n: images; unit: images a unit, which is one shard; prompts:
    texts to cycle through, of a model that reads, for which labels mean nothing.
    ConfigError: n or unit below 1, an alias for a model, an unknown label, no prompt or one that is no caption.
    """

    model: str
    checkpoint_sha256: str
    dataset_digest: str
    classes: tuple[str, ...]
    levels: int
    labels: str | tuple[str, ...]
    n: int
    seed: int
    unit: int
    sampling: Mapping[str, Any]
    prompts: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("n", "unit"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    "is no number of images", field=name, value=getattr(self, name), mend="give 1 or more"
                )
        if not self.model.rpartition("/")[2].isdigit():
            raise ConfigError("is no exact version", field="model", value=self.model, mend="resolve the alias first")
        for label in () if self.labels == BALANCED else self.labels:
            if label not in self.classes:
                mend = f"the classes are {', '.join(self.classes)}"
                raise ConfigError("is no class of the model", field="labels", value=label, mend=mend)
        if self.prompts is not None and not self.prompts:
            raise ConfigError("are none", field="prompts", value=[], mend="give one or more")
        for prompt in self.prompts or ():
            if "\0" in prompt:
                raise ConfigError("holds a zero byte", field="prompts", value=prompt, mend="remove it")

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Request:
        """The request that ``plain`` says."""
        texts = {name: tuple(plain[name]) for name in ("classes", "prompts") if name in plain}
        labels = plain.get("labels", BALANCED)
        return cls(**{**plain, **texts, "labels": labels if isinstance(labels, str) else tuple(labels)})

    @property
    def asked(self) -> Asked:
        """What each sample is asked for."""
        if self.prompts is not None:
            return Prompts(self.prompts)
        return Labels(self.classes, self.classes if self.labels == BALANCED else tuple(self.labels))

    @property
    def digest(self) -> str:
        """12 hex digits of the sha256 of the request's canonical JSON."""
        canonical = json.dumps(self.plain(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    def plain(self) -> dict[str, Any]:
        """The request as JSON would hold it, without what means nothing to it: a job of labels is known by the same digest
        as before there were prompts.
        """
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        del values["prompts" if self.prompts is None else "labels"]
        return values


@dataclass(frozen=True)
class Unit:
    """Samples start, ..., stop - 1 of a request: one shard."""

    index: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        return f"samples-{self.index:05d}"


def units(request: Request) -> list[Unit]:
    """The request's units in order; the last one may be smaller."""
    starts = range(0, request.n, request.unit)
    return [Unit(index, start, min(start + request.unit, request.n)) for index, start in enumerate(starts)]
