"""Frozen encoders of texts give what ``transformers`` gives, for a text alone as in any batch."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from langevin.errors import CheckpointError, ConfigError
from langevin.evaluation.compatibility import declare_missing_operators
from langevin.interop.text_encoders import Encoder, FrozenText, decoded, digest
from langevin.networks.unet import UNet

TEXTS = ("a cat", "b", "", "cat a cat")
WORDS = ["<pad>", "<end>", "a", "b", "cat", "<unknown>"]


def captions(*texts: str, length: int = 12) -> Tensor:
    rows = [list(text.encode()) for text in texts]
    return torch.tensor([row + [0] * (length - len(row)) for row in rows])


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny random model of each kind, with a tokeniser of four words that ends every text."""
    declare_missing_operators()  # transformers imports torchvision
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: i for i, word in enumerate(WORDS)}, "<unknown>"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.post_processor = tokenizers.processors.TemplateProcessing(single="$A <end>", special_tokens=[("<end>", 1)])
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<end>", unk_token="<unknown>"
    )
    torch.manual_seed(0)
    clip = transformers.CLIPTextConfig(
        vocab_size=6, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, projection_dim=16,
        max_position_embeddings=7, eos_token_id=1, pad_token_id=0, bos_token_id=0,
    )  # fmt: skip
    t5 = transformers.T5Config(
        vocab_size=6, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, eos_token_id=1, pad_token_id=0
    )
    found = {}
    for kind, model in (("clip", transformers.CLIPTextModel(clip)), ("t5", transformers.T5EncoderModel(t5))):
        found[kind] = tmp_path_factory.mktemp(kind)
        model.save_pretrained(found[kind])
        fast.save_pretrained(found[kind])
    return found


def both(folders: dict[str, Path], kind: str) -> tuple[FrozenText, Any]:
    import transformers

    name = {"clip": "CLIPTextModel", "t5": "T5EncoderModel"}[kind]
    return FrozenText.load(folders[kind], kind, 7), getattr(transformers, name).from_pretrained(folders[kind]).eval()


kinds = pytest.mark.parametrize("kind", ["clip", "t5"])


@kinds
def test_tokens_are_the_librarys(folders: dict[str, Path], kind: str) -> None:
    ours, theirs = both(folders, kind)
    text = ours(captions(*TEXTS), 4)
    assert text.mask.sum(dim=1).tolist() == [3, 2, 1, 4]
    assert (text.tokens.shape, ours.width) == ((4, 7, 16), 16)
    for row, ids in enumerate(([2, 4, 1], [3, 1], [1], [4, 2, 4, 1])):
        with torch.no_grad():
            out = theirs(input_ids=torch.tensor([ids]))
        pooled = out.pooler_output[0] if kind == "clip" else out.last_hidden_state[0].mean(dim=0)
        torch.testing.assert_close(text.tokens[row, : len(ids)], out.last_hidden_state[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(text.pooled[row], pooled, rtol=1e-4, atol=1e-5)
        assert not text.tokens[row, len(ids) :].any()


@kinds
def test_a_text_has_the_same_bits_in_any_batch_and_padding(folders: dict[str, Path], kind: str) -> None:
    whole = both(folders, kind)[0](captions(*TEXTS), 4)
    other = both(folders, kind)[0]  # it remembers nothing
    for index, text in reversed(list(enumerate(TEXTS))):
        alone = other(captions(text, length=20), 1)
        for one, all_ in zip(alone, whole, strict=True):
            assert torch.equal(one[0], all_[index])


def test_no_text_is_the_empty_one(folders: dict[str, Path]) -> None:
    encoder = both(folders, "t5")[0]
    expected = encoder(captions("", ""), 2)
    for found in (encoder(None, 2), encoder(torch.full((2, 5), -1), 2)):
        assert all(torch.equal(one, wanted) for one, wanted in zip(found, expected, strict=True))


def test_each_text_is_encoded_once(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, asked = both(folders, "clip")[0], []
    encode = Encoder._encoded
    monkeypatch.setattr(
        Encoder, "_encoded", lambda self, texts, device: asked.append(texts) or encode(self, texts, device)
    )
    first = encoder(captions("b", "a", "b"), 3)
    again = encoder(captions("a", "cat"), 2)
    assert asked == [["b", "a"], ["cat"]]
    assert torch.equal(first.tokens[1], again.tokens[0])


def test_a_network_reads_it_and_neither_trains_nor_stores_it(folders: dict[str, Path]) -> None:
    encoder = both(folders, "clip")[0]
    network = UNet((1, 8, 8), 8, (1, 2), 1, (4,), text=encoder)
    assert [name for name in network.state_dict() if name.startswith("text.")] == ["text.sha256"]
    assert list(encoder.parameters()) == []
    assert copy.deepcopy(network).text.encoder is encoder.encoder  # type: ignore[union-attr]
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    found = network(torch.randn(1, 1, 8, 8).expand(2, -1, -1, -1), torch.ones(2), captions("a cat", "b"))
    assert not torch.allclose(found[0], found[1], atol=1e-5)


def test_another_encoders_weights_are_refused(folders: dict[str, Path]) -> None:
    encoder, model = both(folders, "t5")
    assert bytes(encoder.get_buffer("sha256").tolist()).hex() == encoder.encoder.sha256 == digest(model)
    encoder.load_state_dict(encoder.state_dict())
    with pytest.raises(CheckpointError, match="another encoder"):
        encoder.load_state_dict(both(folders, "clip")[0].state_dict())


@pytest.mark.parametrize(
    ("folder", "kind", "length", "error", "message"),
    [
        ("clip", "bert", None, ConfigError, "no encoder"),
        ("clip", "clip", 8, ConfigError, "no text so long"),
        ("t5", "clip", None, CheckpointError, "holds no CLIPTextModel"),
        ("nowhere", "clip", None, CheckpointError, "holds no CLIPTextModel"),
    ],
)
def test_what_cannot_be_loaded(
    folders: dict[str, Path], tmp_path: Path, folder: str, kind: str, length: int | None, error: Any, message: str
) -> None:
    with pytest.raises(error, match=message):
        FrozenText.load(folders.get(folder, tmp_path), kind, length)


def test_without_transformers_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match="needs the package transformers"):
        FrozenText.load(tmp_path, "clip")


def test_bytes_as_text() -> None:
    cut = [*"zwölf".encode()[:3], 0, -1]
    assert (decoded(cut), decoded([]), decoded(list("ö".encode()))) == ("zw", "", "ö")
