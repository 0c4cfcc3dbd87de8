"""Large frozen networks from ``transformers``, by a folder on this machine: DINOv2's features and CLIP's score.

FD with DINOv2's features agrees with what people find realistic where Inception's, which know only 1,000 classes of
photographs, do not (Stein et al. 2023). A folder holds config.json and model.safetensors, for CLIP the tokeniser's files
too; nothing is ever fetched. The library is imported when one is loaded, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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

    @torch.no_grad()
    def features(self, images: Tensor) -> Features:
        """Of images (N, C, H, W) uint8."""
        found = [self.model(pixel_values=part).pooler_output
                 for part in _batches(images, self.side, DINOV2_MEAN, DINOV2_DEVIATION)]  # fmt: skip
        return Features(torch.cat(found), torch.zeros(len(images), 0))


@dataclass(frozen=True)
class Clip:
    """Both towers of CLIP."""

    model: Any
    tokenizer: Any
    sha256: str
    side: int

    @torch.no_grad()
    def scores(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """100 max(cos, 0) of each image (N, C, H, W) uint8 and its text: (N,). Hessel et al. 2021, eq. 1, with the weight
        100 that is in use for generated images, not their 2.5.
        """
        if len(images) != len(texts):
            raise DataError(f"{len(images)} images with {len(texts)} texts have no score")
        found = []
        for number, pixels in enumerate(_batches(images, self.side, CLIP_MEAN, CLIP_DEVIATION)):
            asked = list(texts[number * BATCH : number * BATCH + len(pixels)])
            length = self.model.config.text_config.max_position_embeddings
            given = self.tokenizer(asked, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
            both = self.model(input_ids=given["input_ids"], attention_mask=given["attention_mask"], pixel_values=pixels)
            found.append(100 * cosine_similarity(both.image_embeds, both.text_embeds).clamp_min(0))
        return torch.cat(found)


def load_dinov2(folder: Path) -> Dinov2:
    """ConfigError where nothing lies there or transformers is missing, CheckpointError where it is no DINOv2."""
    known_by, model = weights_sha256(folder, "dinov2"), _load(folder, "Dinov2Model", "dinov2")
    return Dinov2(model, known_by, model.config.hidden_size, min(SIDE, model.config.image_size))


def load_clip(folder: Path) -> Clip:
    """ConfigError where nothing lies there or transformers is missing, CheckpointError where it is no CLIP."""
    known_by, model = weights_sha256(folder, "clip"), _load(folder, "CLIPModel", "clip")
    import transformers

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"holds no tokeniser that can be read: {_line(error)}", file=folder) from error
    return Clip(model, tokenizer, known_by, model.config.vision_config.image_size)


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


def _batches(images: Tensor, side: int, mean: Sequence[float], deviation: Sequence[float]) -> Iterator[Tensor]:
    """(b, 3, side, side) normalised, resized by antialiased cubics; grey images in three channels."""
    if images.dtype != torch.uint8 or images.ndim != 4 or len(images) == 0:
        raise DataError(f"an extractor reads (N, C, H, W) uint8 images, not {tuple(images.shape)} {images.dtype}")
    centre, width = (torch.tensor(values)[:, None, None] for values in (mean, deviation))
    colour = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
    for part in colour.split(BATCH):
        shown = interpolate(part.float(), size=(side, side), mode="bicubic", antialias=True, align_corners=False)
        yield (shown.clamp(0, 255) / 255 - centre) / width


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
