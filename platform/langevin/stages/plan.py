"""What a recipe costs before anybody runs it: parameters, arithmetic, memory, hours on so many GPUs of a kind.

Neither its data set nor a trained part is needed: what the recipe and the recipes beside it say is enough.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from langevin.config import model as sections
from langevin.config.assembly import assembled
from langevin.config.load import load_recipe
from langevin.config.recipe import Recipe
from langevin.errors import ConfigError
from langevin.networks.cost import GPUS, Memory
from langevin.protocols import Batch, Samples
from langevin.randomness import Keys, Noise
from langevin.stages.foreseen import beside, described, source_info
from langevin.stages.weightless import IMAGES, Draw, drawing, tallied, training_step, weightless

UTILISATION = 0.4
SERVING = "fp32"  # what sampling and encoding multiply in, whatever training does
ADAPTIVE = "probability_flow"  # takes as many steps as the images ask for


@dataclass(frozen=True)
class Machine:
    """So many GPUs of a kind in GPUS, of whose peak at a number format a share is reached.

    precision: the format, None for what the code multiplies in. ConfigError for another kind, a format that it does not
    multiply in, or a share outside of (0, 1].
    """

    gpus: int = 1
    kind: str = "H100"
    utilisation: float = UTILISATION
    precision: str | None = None

    def __post_init__(self) -> None:
        if self.gpus < 1:
            raise ConfigError("is no number of GPUs", field="--gpus", value=self.gpus, mend="take 1 or more")
        if self.kind not in GPUS:
            raise ConfigError("is no GPU whose rates are known", field="--kind", value=self.kind,
                              mend=f"choose from {', '.join(GPUS)}")  # fmt: skip
        if self.precision not in (None, *GPUS[self.kind].peaks):
            raise ConfigError(f"is no format that {self.kind} multiplies in", field="--precision", value=self.precision,
                              mend=f"choose from {', '.join(GPUS[self.kind].peaks)}")  # fmt: skip
        if not 0 < self.utilisation <= 1:
            raise ConfigError("is no share of the peak", field="--utilisation", value=self.utilisation,
                              mend="take one in (0, 1], such as 0.4")  # fmt: skip

    def at(self, precision: str) -> Machine:
        """The same, at this number format where none was said."""
        return self if self.precision else replace(self, precision=precision)

    @property
    def rate(self) -> float:
        """Operations a second of all GPUs together. Of a machine that knows its precision."""
        assert self.precision is not None
        return self.gpus * GPUS[self.kind].peaks[self.precision] * self.utilisation

    def priced(self, images: int, each: int) -> dict[str, float]:
        """Images x operations each, as images, images a second and hours."""
        return {"images": images, "images_per_second": self.rate / each, "hours": images * each / self.rate / 3600}


def plan(path: Path, machine: Machine) -> dict[str, Any]:
    """The plan of the recipe at path as plain values; a cascade's is its stages' and their sum.

    ConfigError where its parts do not fit together, or a recipe that it names does not lie beside it.
    """
    recipe = load_recipe(path)
    said: dict[str, Any] = {"recipe": recipe.name, "method": recipe.model.method}
    if isinstance(recipe.model, sections.Cascade):
        return said | _of_cascade(recipe, path, machine)
    learns, serves = machine.at(recipe.train.precision), machine.at(SERVING)
    said["machine"] = asdict(learns)
    found = Priced(recipe, path)
    step, section = found.step, recipe.train
    latents = {"latents": found.codec_plan(serves)} if recipe.latents else {}
    return said | {
        "image_shape": list(found.shape),
        "classes": len(found.info.classes),
        "parameters": step.trained,
        "frozen_parameters": step.frozen,
        "operations": {"forward": step.forward, "training": step.training},
        "memory": _memory(found, learns),
        "training": learns.priced(section.images, step.training),
        **latents,
        **({"sampling": _sampling(found.draw, recipe, serves)} if found.samples else {}),
    }


class Priced:
    """A recipe's model, counted. shape: of an image; step: of its training; samples: whether it draws images;
    draw: of one, None where there is none or its steps depend on the images."""

    def __init__(self, recipe: Recipe, path: Path) -> None:
        self.recipe, self.path = recipe, path
        self.info, self.said = source_info(recipe.data, path), described(recipe, path)
        self.shape = self.info.shape
        self.step = training_step(self._model(self.said), self._batch(IMAGES, latent=True))
        self.samples = isinstance(self._model(self.said), Samples)
        counted = self.samples and recipe.sample.sampler != ADAPTIVE
        self.draw = drawing(self._model(self.said), self._batch(1, latent=False)) if counted else None

    def codec_plan(self, machine: Machine) -> dict[str, Any]:
        """What it takes to encode a million images, which `langevin encode` does once."""
        assert self.recipe.latents is not None
        codec, image = self._model(self.said["codec"]).codec, torch.zeros(1, *self.shape)
        encoding = tallied(codec, lambda: codec.encode(image, Noise(Keys.range(0, 0, 1))))
        return {
            "codec": self.recipe.latents.codec,
            "shape": list(codec.latent_shape),
            "operations": encoding.operations,
            "encoding": machine.priced(10**6, encoding.operations),
        }

    def _model(self, said: dict[str, Any]) -> Any:
        try:
            with weightless():
                return assembled(said)
        except ConfigError as error:  # only with the shape of an image at hand can parts be found not to fit
            raise ConfigError(
                error.problem, file=self.path, field=error.field, value=error.value, mend=error.mend
            ) from None

    def _batch(self, count: int, latent: bool) -> Batch:
        """Images, or what stands for them, of the shapes that the model is given."""
        shape = self.shape
        if latent and self.recipe.latents:
            shape = self._model(self.said["codec"]).codec.latent_shape
        # as long as the reader reads: shorter captions are read in less
        length = getattr(getattr(self.recipe.model, "text", None), "length", None) or 0
        captions = torch.ones(count, length, dtype=torch.int64) if self.info.captions else None
        labels, ordinals = torch.zeros(count, dtype=torch.int64), torch.arange(count)
        return Batch(torch.zeros(count, *shape), labels, ordinals, tuple(map(str, range(count))), captions)


def memory(found: Priced, images: int) -> Memory:
    """Of a worker of a data-parallel run that trains on ``images`` at a time, in 4 bytes a number, which bf16's activations
    nearly halve. Averages have a copy of what is frozen, too; it has no gradients and no moments.
    """
    step, averages = found.step, 1 + len(found.recipe.train.ema_stds)
    trained, whole = 4 * step.trained, 4 * (step.trained + step.frozen)
    return Memory(whole, trained, 2 * trained, averages * whole, images * step.activations + step.fixed)


def fewest_gpus(found: Priced, of: int) -> int | None:
    """How many GPUs of ``of`` bytes the training fits on, its batch divided among them; None where no number is enough."""
    room = (of - memory(found, 0).total) // found.step.activations
    section = found.recipe.train
    return -(-section.batch // (section.accumulate * room)) if room > 0 else None


def _memory(found: Priced, machine: Machine) -> dict[str, Any]:
    of = GPUS[machine.kind].memory
    share = -(-found.recipe.train.batch // machine.gpus)
    held = memory(found, -(-share // found.recipe.train.accumulate))
    return asdict(held) | {"total": held.total, "of": of, "fewest_gpus": fewest_gpus(found, of)}


def _sampling(draw: Draw | None, recipe: Recipe, machine: Machine) -> dict[str, Any] | None:
    if draw is None:
        return None
    return {
        "calls": draw.calls,
        "operations": draw.operations,
        **machine.priced(recipe.generate.images, draw.operations),
    }


def _of_cascade(recipe: Recipe, path: Path, machine: Machine) -> dict[str, Any]:
    """Of its models, each by its own recipe, in training one after the other; a sample goes through all of them."""
    assert isinstance(recipe.model, sections.Cascade)
    places = {"model.base": recipe.model.base} | {
        f"model.stages.{n}": name for n, name in enumerate(recipe.model.stages)
    }
    for field, name in places.items():
        if isinstance(load_recipe(beside(path, name, field)).model, sections.Cascade):
            raise ConfigError("is a cascade itself", file=path, field=field, value=name, mend="name its stages")
    stages = [plan(beside(path, name, field), machine) for field, name in places.items()]
    drawn = [stage["sampling"] for stage in stages if stage.get("sampling")]
    whole = Draw(*(sum(one[name] for one in drawn) for name in ("calls", "operations")))
    serves = machine.at(SERVING)
    return {
        "machine": asdict(serves),
        "image_shape": stages[-1]["image_shape"],
        "parameters": sum(stage["parameters"] for stage in stages),
        "training": {"hours": sum(stage["training"]["hours"] for stage in stages)},
        "sampling": _sampling(whole if len(drawn) == len(stages) else None, recipe, serves),
        "stages": stages,
    }
