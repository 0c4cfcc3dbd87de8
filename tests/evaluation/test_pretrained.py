"""DINOv2 and CLIP from folders, by tiny random models of the real architectures."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from torch import Tensor

from langevin.errors import CheckpointError, ConfigError, DataError
from langevin.evaluation.compatibility import declare_missing_operators
from langevin.evaluation.pretrained import CLIP_DEVIATION, CLIP_MEAN, load_clip, load_dinov2
from langevin.evaluation.suite import RealImages, evaluate_fd

WORDS = ("<pad>", "<end>", "<unknown>", "red", "circle", "grey")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    declare_missing_operators()
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    dinov2 = transformers.Dinov2Model(transformers.Dinov2Config(**small, image_size=28, patch_size=14))
    text = small | {
        "vocab_size": 6,
        "max_position_embeddings": 7,
        "eos_token_id": 1,
        "pad_token_id": 0,
        "bos_token_id": 0,
    }
    clip = transformers.CLIPModel(
        transformers.CLIPConfig(
            text_config=text, vision_config=small | {"image_size": 16, "patch_size": 8}, projection_dim=8
        )
    )
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: i for i, word in enumerate(WORDS)}, "<unknown>"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.post_processor = tokenizers.processors.TemplateProcessing(single="$A <end>", special_tokens=[("<end>", 1)])
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<end>", unk_token="<unknown>"
    )
    found = {"dinov2": tmp_path_factory.mktemp("dinov2"), "clip": tmp_path_factory.mktemp("clip")}
    dinov2.save_pretrained(found["dinov2"])
    clip.save_pretrained(found["clip"])
    fast.save_pretrained(found["clip"])
    return found


def images(n: int, channels: int = 3, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (n, channels, 16, 16), generator=torch.Generator().manual_seed(seed)).byte()


def test_dinov2_is_the_class_token(folders: dict[str, Path]) -> None:
    import transformers

    extractor = load_dinov2(folders["dinov2"])
    assert (extractor.dim, extractor.side) == (16, 28)
    assert extractor.sha256 == hashlib.sha256((folders["dinov2"] / "model.safetensors").read_bytes()).hexdigest()
    some = images(70)
    found = extractor.features(some)
    pixels = (
        torch.nn.functional.interpolate(some.float(), size=(28, 28), mode="bicubic", antialias=True).clamp(0, 255) / 255
    )
    pixels = (pixels - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(
        3, 1, 1
    )
    model = transformers.Dinov2Model.from_pretrained(folders["dinov2"]).eval()
    with torch.no_grad():
        torch.testing.assert_close(found.features, model(pixels).last_hidden_state[:, 0], rtol=1e-4, atol=1e-5)
    grey = images(3, channels=1)
    assert torch.equal(extractor.features(grey).features, extractor.features(grey.repeat(1, 3, 1, 1)).features)


def test_fd_with_dinov2_stands_beside_its_floor(folders: dict[str, Path]) -> None:
    extractor = load_dinov2(folders["dinov2"])
    train, test = RealImages(images(120, seed=1)), RealImages(images(90, seed=2))
    dark = images(100, seed=3) // 4
    found = evaluate_fd(dark, torch.zeros(100, dtype=torch.int64), test, train, extractor)
    assert set(found) == {"fd_dinov2", "fd_dinov2_floor"}
    assert found["fd_dinov2"].low > found["fd_dinov2_floor"].high


def test_clip_score_is_the_cosine_of_both_towers(folders: dict[str, Path]) -> None:
    import transformers

    clip, texts = load_clip(folders["clip"]), ["red circle", "grey", "circle grey"] * 30
    some = images(90)
    scores = clip.scores(some, texts)
    model = transformers.CLIPModel.from_pretrained(folders["clip"]).eval()
    ids = torch.tensor([[3, 4, 1, 0, 0, 0, 0], [5, 1, 0, 0, 0, 0, 0], [4, 5, 1, 0, 0, 0, 0]] * 30)
    pixels = (some.float() / 255 - torch.tensor(CLIP_MEAN).view(3, 1, 1)) / torch.tensor(CLIP_DEVIATION).view(3, 1, 1)
    with torch.no_grad():
        both = model(input_ids=ids, attention_mask=(ids > 0).long(), pixel_values=pixels)
    cosines = both.logits_per_image.diagonal() / model.logit_scale.exp()
    torch.testing.assert_close(scores, 100 * cosines.clamp_min(0), rtol=1e-3, atol=1e-3)
    assert bool((scores >= 0).all())
    assert len(scores.unique()) > 10
    with pytest.raises(DataError, match="texts"):
        clip.scores(some, texts[:2])


def test_what_is_no_such_model_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    for load, field in ((load_dinov2, "evaluate.dinov2"), (load_clip, "evaluate.clip")):
        with pytest.raises(ConfigError, match=field):
            load(tmp_path)
    with pytest.raises(CheckpointError, match="holds no CLIPModel"):
        load_clip(folders["dinov2"])
    with pytest.raises(CheckpointError, match="holds no Dinov2Model"):
        load_dinov2(folders["clip"])
