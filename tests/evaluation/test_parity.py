"""Our numbers are those of torch-fidelity's own ``calculate_metrics``, on the same images by the same extractor."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from langevin.evaluation.compatibility import fidelity, fidelity_part
from langevin.evaluation.extractors import INCEPTION, ConvExtractor, Features, load_extractor, register
from langevin.evaluation.frechet import fid
from langevin.evaluation.inception import inception_score
from langevin.evaluation.kid import kid
from langevin.evaluation.neighbours import neighbour_figures
from langevin.evaluation.sets import FeatureSet
from langevin.evaluation.statistics import Moments

SEED = 7
REAL = 1660  # all digits of the fixture


class Images(Dataset):
    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


def theirs(one: Tensor, two: Tensor, subset: int, **asked: object) -> dict[str, float]:
    """FID, KID, IS, precision and recall as torch-fidelity says."""
    asked |= {
        "input1": Images(one),
        "input2": Images(two),
        "cuda": False,
        "cache": False,  # which goes by names, not by content
        "verbose": False,
        "save_cpu_ram": True,  # no worker processes
        "rng_seed": SEED,
        "kid_subset_size": subset,
    }
    found = fidelity().calculate_metrics(fid=True, kid=True, isc=True, **asked)
    return found | fidelity().calculate_metrics(prc=True, **asked)


def ours(a: Features, b: Features, subset: int) -> dict[str, float]:
    """The same by our functions."""
    distance, score = kid(a.features, b.features, SEED, subset), inception_score(a.logits, SEED)
    near = neighbour_figures(FeatureSet.of(a.features, 0, "a"), FeatureSet.of(b.features, 0, "b"))
    return {
        "frechet_inception_distance": fid(Moments.of(a.features), Moments.of(b.features)),
        "kernel_inception_distance_mean": distance.mean,
        "kernel_inception_distance_std": distance.deviation,
        "inception_score_mean": score.mean,
        "inception_score_std": score.deviation,
        "precision": near["precision"].value,
        "recall": near["recall"].value,
    }


@pytest.fixture(scope="module")
def pair(digits) -> tuple[Tensor, Tensor]:
    """2,000 digits with noise, and all digits."""
    real = torch.cat([digits.train.images, digits.test.images])
    assert len(real) == REAL
    repeated = real[torch.arange(2000) % REAL].float()
    noise = torch.randn(repeated.shape, generator=torch.Generator().manual_seed(0)) * 20
    return (repeated + noise).round().clamp(0, 255).byte(), real


def test_metrics_of_2000_images(pair: tuple[Tensor, Tensor], extractor: ConvExtractor) -> None:
    register(extractor)
    expected = theirs(*pair, subset=500, feature_extractor=extractor.name)
    one, two = (extractor.features(images) for images in pair)
    found = ours(one, two, subset=500)
    assert found == pytest.approx({name: expected[name] for name in found}, rel=1e-4)

    whole = found["frechet_inception_distance"]
    for parts in (1, 2, 5):
        pieces = [Moments.of(part) for part in one.features.split(-(-2000 // parts))]
        assert len(pieces) == parts
        for order in permutations(pieces):
            assert fid(sum(order[1:], start=order[0]), Moments.of(two.features)) == pytest.approx(whole, rel=1e-9)


@pytest.fixture
def inception_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """torch-fidelity's Inception with random weights, as a file of its format."""
    part = fidelity_part("feature_extractor_inceptionv3")
    monkeypatch.setattr(part, "load_state_dict_from_url", lambda *_, **__: {})
    monkeypatch.setattr(nn.Module, "load_state_dict", lambda *_, **__: None)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        blank = part.FeatureExtractorInceptionV3(INCEPTION, ["2048"])
    monkeypatch.undo()
    torch.save(blank.state_dict(), tmp_path / "weights.pth")
    yield tmp_path / "weights.pth"
    (tmp_path / "weights.pth").unlink()  # 90 MB


@pytest.mark.slow  # eigenvalues in 2048 dimensions
def test_inception_by_a_file_of_its_weights(inception_weights: Path, pair: tuple[Tensor, Tensor]) -> None:
    one, two = (images[:64].repeat(1, 3, 1, 1) for images in pair)
    expected = theirs(
        one, two, subset=32, feature_extractor=INCEPTION, feature_extractor_weights_path=str(inception_weights)
    )
    extractor = load_extractor(INCEPTION, inception_weights)
    found = ours(extractor.features(one), extractor.features(two), subset=32)
    assert found == pytest.approx({name: expected[name] for name in found}, rel=1e-4)
