"""Frozen encoders of texts from ``transformers``: CLIP's text model and T5's encoder, as our networks read them.

Rombach et al. 2022 (Stable Diffusion) and Saharia et al. 2022 (Imagen) read such texts. A folder holds config.json,
model.safetensors and the tokeniser's files. The library is imported when an encoder is loaded, and nowhere else.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.functional import pad

from langevin.errors import CheckpointError, ConfigError
from langevin.networks.blocks import InBlocks
from langevin.networks.text import Text


class Kind(NamedTuple):
    """model: transformers' class; length: tokens of a text at most; ends: the last token stands for the text, not the mean."""

    model: str
    length: int
    ends: bool


KINDS = {"clip": Kind("CLIPTextModel", 77, True), "t5": Kind("T5EncoderModel", 128, False)}
KEPT = 1024  # texts whose encodings are remembered


class Encoded(NamedTuple):
    """tokens: (n, width) without padding; pooled: (width,)."""

    tokens: Tensor
    pooled: Tensor


class States(nn.Module):
    """A model of transformers, asked for its last states alone: ids (B, L), mask (B, L) -> (B, L, width)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        states: Tensor = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        return states


class Encoder:
    """texts -> their encodings, each computed once while it is among the last ``KEPT``. A copy is the encoder itself.

    In blocks, so that an encoding does not depend on which texts are asked for beside it.
    """

    def __init__(self, model: Any, tokenizer: Any, kind: Kind, length: int) -> None:
        self.width, self.length, self.kind = int(model.config.hidden_size), length, kind
        self.sha256, self._tokenizer = digest(model), tokenizer
        tokenizer.padding_side = "right"
        self._states = InBlocks(States(model.eval().requires_grad_(False)))
        self._known: OrderedDict[str, Encoded] = OrderedDict()

    def __deepcopy__(self, memo: Any) -> Encoder:  # an average of a model's weights reads by the same frozen ones
        return self

    def __call__(self, texts: Sequence[str], device: torch.device) -> list[Encoded]:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, self._encoded(new, device), strict=True))
        found = [self._known[text] for text in texts]
        for text in texts:
            self._known.move_to_end(text)
        while len(self._known) > KEPT:
            self._known.popitem(last=False)
        return [Encoded(*(values.to(device) for values in one)) for one in found]

    @torch.no_grad()
    def _encoded(self, texts: list[str], device: torch.device) -> list[Encoded]:
        given = self._tokenizer(
            texts, padding="max_length", truncation=True, max_length=self.length, return_tensors="pt"
        )
        ids, mask = given["input_ids"].to(device), given["attention_mask"].to(device)
        mask[:, 0] = 1  # whatever a tokeniser makes of an empty text: there is a token to look at
        rows = self._states.to(device)(ids, mask).float()
        states = [row[:count].clone() for row, count in zip(rows, mask.sum(dim=1).tolist(), strict=True)]
        return [Encoded(state, state[-1] if self.kind.ends else state.mean(dim=0)) for state in states]


class FrozenText(nn.Module):
    """encoder(captions, batch) -> Text of the library's tokens, M = length; captions: (B, L) int64, bytes of UTF-8.

    "No text" is the empty one. Nothing here is trained, averaged or stored but the weights' sha256: a checkpoint says which
    encoder it was trained with, and another is refused (CheckpointError).
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder, self.width, self.length = encoder, encoder.width, encoder.length
        self.register_buffer("sha256", torch.tensor(list(bytes.fromhex(encoder.sha256)), dtype=torch.uint8))

    @classmethod
    def load(cls, folder: Path | str, kind: str, length: int | None = None) -> FrozenText:
        """The encoder in a folder, or of a name that transformers knows. kind: "clip" or "t5"; length: in tokens.

        ConfigError for a kind or a length that there is not, and without transformers; CheckpointError for files that are
        missing or of another model. Only safetensors are read.
        """
        if kind not in KINDS:
            raise ConfigError("is no encoder of texts", field="kind", value=kind, mend=f"take {' or '.join(KINDS)}")
        try:
            import transformers

            of = getattr(transformers, KINDS[kind].model)
        except ImportError as error:
            raise ConfigError(f"a frozen encoder of texts needs the package transformers: {error}", field="kind", value=kind,
                              mend="install transformers, or train an encoder of your own") from error  # fmt: skip
        try:
            model, report = of.from_pretrained(folder, use_safetensors=True, output_loading_info=True)
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise CheckpointError(f"holds no {KINDS[kind].model} that can be read: {error}", file=folder) from error
        if lacking := sorted(report["missing_keys"]):
            raise CheckpointError(f"holds no {KINDS[kind].model}: the tensor is missing", file=folder, field=lacking[0])
        most = getattr(model.config, "max_position_embeddings", None) or length or KINDS[kind].length
        if not 1 <= (length or 1) <= most:
            raise ConfigError("the encoder reads no text so long", file=folder, field="length", value=length,
                              mend=f"give 1 to {most} tokens")  # fmt: skip
        return cls(Encoder(model, tokenizer, KINDS[kind], length or min(most, KINDS[kind].length)))

    def forward(self, captions: Tensor | None, batch: int) -> Text:
        device = self.get_buffer("sha256").device
        texts = [""] * batch if captions is None else [decoded(row) for row in captions.tolist()]
        found = self.encoder(texts, device)
        counts = torch.tensor([len(one.tokens) for one in found], device=device)
        mask = torch.arange(self.length, device=device) < counts[:, None]
        tokens = torch.stack([pad(one.tokens, (0, 0, 0, self.length - len(one.tokens))) for one in found])
        return Text(tokens, mask, torch.stack([one.pooled for one in found]))

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *others: Any) -> None:
        stored = state_dict.get(f"{prefix}sha256")
        if stored is not None and (theirs := bytes(stored.tolist()).hex()) != self.encoder.sha256:
            raise CheckpointError(
                f"the model was trained with another encoder of texts; this one's is {self.encoder.sha256}",
                field=f"{prefix}sha256", value=theirs, mend="give the folder with the encoder it was trained with",
            )  # fmt: skip
        super()._load_from_state_dict(state_dict, prefix, *others)


def decoded(caption: Sequence[int]) -> str:
    """Bytes of UTF-8, values <= 0 left out, as a text; a character that was cut in half is left out as well."""
    return bytes(value for value in caption if value > 0).decode(errors="ignore")


def digest(model: nn.Module) -> str:
    """sha256 of a model's tensors, by name: the same wherever and however they were stored."""
    found = hashlib.sha256()
    for name, values in sorted(model.state_dict().items()):
        found.update(f"{name} {values.dtype} {tuple(values.shape)} ".encode())
        found.update(values.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
