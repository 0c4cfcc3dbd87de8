"""A noise-aware CLIP: noisy images and texts as vectors on one sphere (Radford et al. 2021; Nichol et al. 2021, 2.4)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


class TextTower(nn.Module):
    """tower(captions (B, L) int64) -> (B, width) unit vectors, and the zero vector for a row that is "no text".

    The zero vector is as similar to one image as to another: it leads nowhere. encoder: networks/text.py.
    """

    def __init__(self, encoder: nn.Module, width: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.projection = nn.Linear(int(encoder.width), width, bias=False)  # type: ignore[arg-type]

    def forward(self, captions: Tensor) -> Tensor:
        vectors = normalize(self.projection(self.encoder(captions, len(captions)).pooled), dim=1)
        return vectors * (captions > 0).any(dim=1, keepdim=True)


class NoisyCLIP(nn.Module):
    """image(x, noise) -> (B, width), any network of noisy images (NoisyClassifier with ``width`` classes is one); text:
    an encoder of texts (networks/text.py). x: (B, C, H, W), noise: (B,), the number that the image's network is told.

    ``scale`` times the cosine of an image's and a text's vector is, trained by ``clip_loss``, log p(text | x) - log p(text)
    but for a constant that no gradient sees (van den Oord et al. 2018, section 2.3): a potential for guidance.
    """

    WARMEST, START = 100.0, 1 / 0.07  # Radford et al. 2021, section 2.5

    def __init__(self, image: nn.Module, text: nn.Module, width: int) -> None:
        super().__init__()
        self.image, self.text, self.width = image, TextTower(text, width), width
        self.log_scale = nn.Parameter(torch.tensor(math.log(self.START)))

    @property
    def scale(self) -> Tensor:
        """The inverse temperature of the contrast, learned: () in (0, 100]."""
        return self.log_scale.clamp(max=math.log(self.WARMEST)).exp()

    def image_embedding(self, x: Tensor, noise: Tensor) -> Tensor:
        """(B, width) unit vectors."""
        return normalize(self.image(x, noise), dim=1)

    def text_embedding(self, captions: Tensor | None) -> Tensor:
        """(B, width) unit vectors, zero for "no text"; (1, width) zeros for None."""
        if captions is None:
            return torch.zeros(1, self.width, device=self.log_scale.device)
        vectors: Tensor = self.text(captions)
        return vectors

    def forward(self, x: Tensor, noise: Tensor, captions: Tensor) -> Tensor:
        """The contrastive loss of each pair of a noisy image and its caption: (B,)."""
        return clip_loss(self.image_embedding(x, noise), self.text_embedding(captions), self.scale)


def clip_loss(image: Tensor, text: Tensor, scale: Tensor | float) -> Tensor:
    """Of each pair, the mean of -log p(its text | its image) and -log p(its image | its text) among the batch's: (B,) nats.

    p is a softmax of scale x <image, text>. Radford et al. 2021, figure 3. image, text: (B, d) unit vectors. A pair whose
    text is zero, "no text", is none: its loss is 0 and it stands in no other pair's contrast. The one loss whose value
    depends on who shares the batch: that is what it compares.
    """
    told = text.detach().any(dim=1)
    itself = torch.eye(len(text), dtype=torch.bool, device=text.device)
    logits = (scale * image @ text.T).masked_fill(~(told[:, None] & told | itself), -torch.inf)
    chosen = logits.log_softmax(dim=1).diagonal() + logits.log_softmax(dim=0).diagonal()
    return (-chosen / 2).where(told, 0)
