"""Large frozen networks from ``transformers``, by a folder on this machine: DINOv2's features and CLIP's score.

FD with DINOv2's features agrees with what people find realistic where Inception's, which know only 1,000 classes of
photographs, do not (Stein et al. 2023). A folder holds config.json and model.safetensors, for CLIP the tokeniser's files
too; nothing is ever fetched. The library is imported when one is loaded, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.nn.functional import cosine_similarity, interpolate

from langevin.data.files import sha256
from langevin.errors import CheckpointError, ConfigError, DataError
from langevin.evaluation.compatibility import declare_missing_operators
from langevin.evaluation.crew import ALONE, Crew, Work
from langevin.evaluation.extractors import Features

SIDE = 224  # pixels that DINOv2 is given, as in Stein et al. 2023; CLIP has its own number
DINOV2_MEAN, DINOV2_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN, CLIP_DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
BATCH = 64  # fixed: the features of a set are then the same to the bit, however the set was made


@dataclass(frozen=True)
class Dinov2:
    """An extractor (extractors.py) whose features are the class token after the last normalisation; it has no logits."""

    model: Any
    sha256: str
    dim: int
    side: int
    name: str = "dinov2"
    classes: int = 0
    accuracy: float | None = None
    crew: Crew = ALONE

    def features(self, images: Tensor) -> Features:
        """Of images (N, C, H, W) uint8."""
        found = self.crew.map(_Looking(self.model, self.side), _batches(images))
        return Features(torch.cat(found), torch.zeros(len(images), 0))


@dataclass(frozen=True)
class _Looking(Work[Tensor, Tensor]):
    """DINOv2's features of a batch."""

    side: int

    def do(self, item: Tensor) -> Tensor:
        shown = _shown(item.to(self.device), self.side, DINOV2_MEAN, DINOV2_DEVIATION)
        found: Tensor = self.model(pixel_values=shown).pooler_output
        return found.cpu()


@dataclass(frozen=True)
class Clip:
    """Both towers of CLIP."""

    model: Any
    tokenizer: Any
    sha256: str
    side: int
    crew: Crew = ALONE

    def scores(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """100 max(cos, 0) of each image (N, C, H, W) uint8 and its text: (N,). Hessel et al. 2021, eq. 1, with the weight
        100 that is in use for generated images, not their 2.5.
        """
        if len(images) != len(texts):
            raise DataError(f"{len(images)} images with {len(texts)} texts have no score")
        length = self.model.config.text_config.max_position_embeddings
        told = self.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        )
        parts = zip(_batches(images), told["input_ids"].split(BATCH), told["attention_mask"].split(BATCH), strict=True)
        return torch.cat(self.crew.map(_Scoring(self.model, self.side), list(parts)))


@dataclass(frozen=True)
class _Scoring(Work[tuple[Tensor, Tensor, Tensor], Tensor]):
    """CLIP's score of a batch: images, the numbers of their texts' tokens, and which of these count."""

    side: int

    def do(self, item: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        images, tokens, mask = (part.to(self.device) for part in item)
        shown = _shown(images, self.side, CLIP_MEAN, CLIP_DEVIATION)
        both = self.model(input_ids=tokens, attention_mask=mask, pixel_values=shown)
        found: Tensor = 100 * cosine_similarity(both.image_embeds, both.text_embeds).clamp_min(0)
        return found.cpu()


def load_dinov2(folder: Path, crew: Crew = ALONE) -> Dinov2:
    """ConfigError where nothing lies there or transformers is missing, CheckpointError where it is no DINOv2."""
    known_by, model = weights_sha256(folder, "dinov2"), _load(folder, "Dinov2Model", "dinov2")
    return Dinov2(model, known_by, model.config.hidden_size, min(SIDE, model.config.image_size), crew=crew)


def load_clip(folder: Path, crew: Crew = ALONE) -> Clip:
    """ConfigError where nothing lies there or transformers is missing, CheckpointError where it is no CLIP."""
    known_by, model = weights_sha256(folder, "clip"), _load(folder, "CLIPModel", "clip")
    import transformers

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"holds no tokeniser that can be read: {_line(error)}", file=folder) from error
    return Clip(model, tokenizer, known_by, model.config.vision_config.image_size, crew)


def weights_sha256(folder: Path, name: str) -> str:
    """Of the model's weights, which it does not load. name: of the field of ``evaluate``. ConfigError where none lie there."""
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise ConfigError("no model lies here", file=folder, field=f"evaluate.{name}", value=str(folder),
                          mend="give a folder with config.json and model.safetensors")  # fmt: skip
    return sha256(*weights)


def _load(folder: Path, kind: str, name: str) -> Any:
    try:
        declare_missing_operators()  # transformers imports torchvision
        import transformers
    except ImportError as error:
        raise ConfigError(f"needs the package transformers: {error}", field=f"evaluate.{name}", value=str(folder),
                          mend="install transformers, or leave the field out") from error  # fmt: skip
    try:
        model, report = getattr(transformers, kind).from_pretrained(
            folder, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"holds no {kind} that can be read: {_line(error)}", file=folder) from error
    if lacking := sorted(report["missing_keys"]):
        raise CheckpointError(f"holds no {kind}: the tensor is missing", file=folder, field=lacking[0])
    return model.float().eval().requires_grad_(False)


def _batches(images: Tensor) -> tuple[Tensor, ...]:
    if images.dtype != torch.uint8 or images.ndim != 4 or len(images) == 0:
        raise DataError(f"an extractor reads (N, C, H, W) uint8 images, not {tuple(images.shape)} {images.dtype}")
    return images.split(BATCH)


def _shown(images: Tensor, side: int, mean: Sequence[float], deviation: Sequence[float]) -> Tensor:
    """(b, 3, side, side) normalised, resized by antialiased cubics; grey images in three channels."""
    centre, width = (torch.tensor(values, device=images.device)[:, None, None] for values in (mean, deviation))
    colour = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
    shown = interpolate(colour.float(), size=(side, side), mode="bicubic", antialias=True, align_corners=False)
    return (shown.clamp(0, 255) / 255 - centre) / width


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
