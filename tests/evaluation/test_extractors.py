"""The extractor: accurate, the same every time, and refused when it is not what it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from langevin.errors import CheckpointError, ConfigError, DataError
from langevin.evaluation.classifier import shifted
from langevin.evaluation.compatibility import fidelity_part
from langevin.evaluation.crew import Threads
from langevin.evaluation.extractors import INCEPTION, ConvExtractor, load_extractor, register, train_extractor
from langevin.randomness import Keys, Noise


def test_it_knows_the_digits_that_it_was_not_trained_on(extractor: ConvExtractor, digits) -> None:
    found = extractor.features(digits.test.images)
    accuracy = (found.logits.argmax(1) == digits.test.labels).double().mean().item()
    assert accuracy == pytest.approx(extractor.accuracy, abs=1e-6)
    assert accuracy >= 0.98
    assert found.features.shape == (360, extractor.dim)
    assert (found.features.std(0) > 1e-3).all(), "a dead feature measures nothing"


def test_an_image_has_the_same_features_in_any_company(extractor: ConvExtractor, digits) -> None:
    whole = extractor.features(digits.test.images).features
    torch.testing.assert_close(extractor.features(digits.test.images[100:107]).features, whole[100:107])


def test_training_is_a_function_of_its_arguments(digits) -> None:
    state = torch.random.get_rng_state()

    def train(seed: int) -> str:
        images, labels = digits.train.images[:150], digits.train.labels[:150]
        return train_extractor(images, labels, digits.test.images, digits.test.labels, 10, seed, "small").sha256

    first = train(1)
    torch.rand(3)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    assert train(1) == first
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)
    torch.random.set_rng_state(state)
    assert train(2) != first
    assert torch.equal(torch.random.get_rng_state(), state), "training moved the caller's random state"


def test_save_and_load(extractor: ConvExtractor, saved: Path, digits) -> None:
    loaded = load_extractor(saved)
    images = digits.test.images[:20]
    assert torch.equal(loaded.features(images).features, extractor.features(images).features)
    assert torch.equal(load_extractor(saved, crew=Threads(2)).features(digits.test.images).features,
                       loaded.features(digits.test.images).features)  # fmt: skip
    for field in ("name", "sha256", "dim", "accuracy", "n", "seed", "classes", "dataset", "shape"):
        assert getattr(loaded, field) == getattr(extractor, field)


def test_tampering_is_found(saved: Path) -> None:
    weights = saved / "extractor.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"not those of extractor\.json") as caught:
        load_extractor(saved)
    assert caught.value.file == weights


@pytest.mark.parametrize("text", ["{", "{}", '{"shape": [1, 8, 8], "classes": 10}', "[]"])
def test_a_damaged_description_is_named(saved: Path, text: str) -> None:
    (saved / "extractor.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"extractor\.json: the extractor's description is damaged"):
        load_extractor(saved)


def test_weights_of_another_network(saved: Path) -> None:
    card = json.loads((saved / "extractor.json").read_text())
    (saved / "extractor.json").write_text(json.dumps(card | {"classes": 7}))
    with pytest.raises(CheckpointError, match="another network"):
        load_extractor(saved)


def test_missing_and_wrong_input(tmp_path: Path, extractor: ConvExtractor, digits) -> None:
    with pytest.raises(ConfigError, match="no extractor lies here"):
        load_extractor(tmp_path)
    with pytest.raises(DataError, match="uint8"):
        extractor.features(digits.test.images.float())
    with pytest.raises(DataError, match="shape"):
        extractor.features(digits.test.images.expand(-1, 3, -1, -1))
    with pytest.raises(DataError, match="labels"):
        train_extractor(
            digits.train.images, digits.train.labels, digits.test.images, digits.test.labels, 9, 0, "too few"
        )


def test_shifts_move_and_keep_the_edge() -> None:
    image = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8)
    moved = shifted(image.expand(300, -1, -1, -1), Noise(Keys.range(0, 0, 300)), "shift")
    padded = torch.nn.functional.pad(image.float(), (1, 1, 1, 1), mode="replicate").byte()
    allowed = {padded[0, 0, y : y + 8, x : x + 8].numpy().tobytes() for y in range(3) for x in range(3)}
    assert {one.contiguous().numpy().tobytes() for one in moved[:, 0]} == allowed


def test_a_name_stands_for_one_set_of_weights(extractor: ConvExtractor, digits) -> None:
    images, labels = digits.train.images[:64], digits.train.labels[:64]
    one, two = (
        train_extractor(images, labels, digits.test.images, digits.test.labels, 10, s, "cnn-twice") for s in (0, 1)
    )
    register(one)
    register(one)
    with pytest.raises(ConfigError, match="cnn-twice"):
        register(two)


def test_inception_asks_for_its_weights(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the path of") as caught:
        load_extractor(INCEPTION)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"nowhere\.pth"):
        load_extractor(INCEPTION, tmp_path / "nowhere.pth")


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_inception_weights_with_code_in_them_are_refused(tmp_path: Path) -> None:
    torch.save({"weight": Bomb(tmp_path / "exploded")}, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=r"weights\.pth"):
        load_extractor(INCEPTION, tmp_path / "weights.pth")
    assert not (tmp_path / "exploded").exists()


def test_inception_reads_grey_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits) -> None:
    """The real architecture with random weights: they cannot be had everywhere, and what is tested is the way to them."""
    part = fidelity_part("feature_extractor_inceptionv3")
    monkeypatch.setattr(part, "load_state_dict_from_url", lambda *_, **__: {})
    monkeypatch.setattr(nn.Module, "load_state_dict", lambda *_, **__: None)
    blank = part.FeatureExtractorInceptionV3(INCEPTION, ["2048"])
    monkeypatch.undo()
    torch.save(blank.state_dict(), tmp_path / "weights.pth")

    loaded = load_extractor(INCEPTION, tmp_path / "weights.pth")
    images = digits.test.images[:2]
    features = loaded.features(images)
    torch.testing.assert_close(features.features, blank(images.repeat(1, 3, 1, 1))[0])
    assert features.logits.shape == (2, loaded.classes)
    register(loaded)  # torch-fidelity has it under this name already
