"""The whole evaluation: what it sees, what it keeps, and what it refuses to compare."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from langevin.errors import ConfigError, DataError, NumericsError
from langevin.evaluation.audit import Aspect, Gap
from langevin.evaluation.comparison import compare
from langevin.evaluation.extractors import ConvExtractor
from langevin.evaluation.intervals import Figure
from langevin.evaluation.judge import Judge, by_class
from langevin.evaluation.specification import MetricSpec
from langevin.evaluation.suite import Evaluation, RealImages, draw, evaluate_samples
from langevin.randomness import Keys, Noise


@pytest.fixture(scope="module")
def judge(digits) -> Judge:
    return Judge.train(digits.train.images, digits.train.labels)


def measure(images: Tensor, labels: Tensor, digits, extractor: ConvExtractor, judge: Judge) -> dict[str, Figure]:
    reference = RealImages(digits.test.images, digits.test.labels)
    train = RealImages(digits.train.images, digits.train.labels)
    return evaluate_samples(images, labels, reference, train, extractor, judge, seed=3)


def noisy(images: Tensor, deviation: float) -> Tensor:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)) * deviation
    return (images.float() + noise).round().clamp(0, 255).byte()


def test_figures_tell_good_samples_from_bad_ones(digits, extractor: ConvExtractor, judge: Judge) -> None:
    train = digits.train
    real = measure(train.images, train.labels, digits, extractor, judge)
    blurred = measure(noisy(train.images, 30), train.labels, digits, extractor, judge)
    one_class = train.labels == 4
    repeats = torch.arange(500) % int(one_class.sum())
    collapsed = measure(train.images[one_class][repeats], torch.full((500,), 4), digits, extractor, judge)

    assert real["fid"].value == pytest.approx(real["fid_floor"].value, rel=1e-4)  # the same images in another order
    assert real["fid_ratio"].value == pytest.approx(1, rel=1e-4)
    assert blurred["fid_ratio"].low > 1
    assert blurred["kid"].value > real["kid"].value
    assert blurred["precision"].value < real["precision"].value
    assert collapsed["fid_ratio"].low > 5
    assert collapsed["recall"].value < 0.2 < 0.8 < real["recall"].value
    assert collapsed["inception_score"].value < 1.5 < 7 < real["inception_score"].value
    assert collapsed["fid_floor"].n == 500


def test_the_judge_is_independent_and_right(digits, judge: Judge) -> None:
    test = digits.test
    assert judge.accuracy(test.images, test.labels) >= 0.97
    wrong = (test.labels + 1) % 10
    assert judge.recognised(test.images, wrong).high < 0.05
    classes = by_class(judge.recognised(test.images, test.labels), test.labels)
    assert sum(figure.n for figure in classes.values()) == len(test.labels)
    total = sum(figure.value * figure.n for figure in classes.values()) / len(test.labels)
    assert total == pytest.approx(judge.accuracy(test.images, test.labels))
    noise = noisy(test.images, 60)
    assert (judge.classes(noise) == judge.machine.predict(noise.flatten(1).numpy() / 255)).all()
    pair = Judge.train(test.images, test.labels % 2)
    assert (pair.classes(noise) == pair.machine.predict(noise.flatten(1).numpy() / 255)).all()
    with pytest.raises(DataError, match="two classes"):
        Judge.train(test.images, torch.zeros_like(test.labels))
    with pytest.raises(DataError, match="labels"):
        judge.recognised(test.images, test.labels[:5])


def test_too_few_images_are_refused(digits, extractor: ConvExtractor, judge: Judge) -> None:
    with pytest.raises(ConfigError, match="generated = 49"):
        measure(digits.train.images[:49], digits.train.labels[:49], digits, extractor, judge)
    with pytest.warns(UserWarning, match="fewer images than dimensions"):
        measure(digits.train.images[:60], digits.train.labels[:60], digits, extractor, judge)


@dataclass(frozen=True)
class Painter:
    """Paints the label and noise of the key."""

    broken: int = -1

    def sample(self, keys: Keys, cond: Tensor) -> Tensor:
        images = Noise(keys).normal("start", torch.empty(len(keys), 1, 2, 2)) + cond.view(-1, 1, 1, 1)
        images[keys.ordinals == self.broken] = torch.nan
        return images

    def walk(self, keys: Keys, cond: Tensor) -> Iterator[Tensor]:
        yield self.sample(keys, cond)


def test_a_sample_depends_on_the_seed_its_number_and_its_label() -> None:
    labels = torch.arange(23) % 5
    seen: list[int] = []
    whole = draw(Painter(), labels, len(labels), seed=9, batch=23)
    parts = draw(Painter(), labels, len(labels), seed=9, batch=10, progress=seen.append)
    assert torch.equal(whole, parts)
    assert seen == [10, 20, 23]
    assert torch.equal(draw(Painter(), labels, 7, seed=9, batch=4), whole[:7])
    assert not torch.equal(draw(Painter(), labels, len(labels), seed=8, batch=23), whole)
    with pytest.raises(NumericsError, match="the first of them 12"):
        draw(Painter(broken=12), labels, len(labels), seed=9, batch=10)
    with pytest.raises(ConfigError, match="batch = 0"):
        draw(Painter(), labels, len(labels), seed=9, batch=0)


SPEC = MetricSpec(
    extractor="cnn-digits-64",
    extractor_sha256="ab" * 32,
    extractor_accuracy=0.994444444,
    reference_split="test",
    reference_n=360,
    dataset_digest="d1",
    generated_n=1300,
    seed=0,
    quantisation="clamp to [-1, 1], round to 17 levels",
    sampling={"sampler": "ddim", "steps": 50, "eta": 0.1 + 0.2},
)


def evaluation(spec: MetricSpec = SPEC, **values: float) -> Evaluation:
    figures = {name: Figure(value, value - 0.1, value + 0.1, 1300) for name, value in values.items()}
    return Evaluation(spec, figures, {"3": Figure(1 / 3, 0.2, 0.5, 9, "fraction")}, seconds=1 / 3, network_calls=50)


def test_json_is_plain_stable_and_comes_back() -> None:
    text = evaluation(fid=1 / 3, kid=1e-7 / 3).to_json()
    found = json.loads(text)
    assert found["figures"]["fid"]["value"] == 0.333333
    assert found["figures"]["kid"]["value"] == 3.33333e-08  # digits, not decimals
    assert found["spec"]["sampling"]["eta"] == 0.3
    assert found["spec_hash"] == SPEC.hash
    again = Evaluation.from_json(text)
    assert again.to_json() == text
    assert again.spec.hash == SPEC.hash
    assert again.figures["fid"] == Figure(0.333333, 0.233333, 0.433333, 1300)


def test_the_audit_is_kept_and_older_evaluations_have_none() -> None:
    aspect = Aspect(0.25, 0.1, 0.001, 100, "images", 10, (Gap("3", 0.0625, 0.125, 0.03125),))
    kept = replace(evaluation(fid=1.0), audit={"class": aspect})
    assert Evaluation.from_json(kept.to_json()).audit == {"class": aspect}
    older = json.loads(kept.to_json())
    del older["audit"], older["spec"]["others"]
    assert Evaluation.from_json(json.dumps(older)).audit == {}


def test_other_networks_make_another_spec() -> None:
    other = replace(SPEC, others={"dinov2": "ab"})
    assert other.hash != SPEC.hash
    assert SPEC.differences(other) == {"others.dinov2": (None, "ab")}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"spec_hash": "x", "spec": {}, "figures": {}, "classes": {}}'])
def test_other_text_is_no_evaluation(text: str) -> None:
    with pytest.raises(DataError, match="no evaluation"):
        Evaluation.from_json(text)


def test_a_changed_spec_is_found() -> None:
    text = evaluation(fid=1).to_json().replace('"steps": 50', '"steps": 500')
    with pytest.raises(DataError, match="spec was changed"):
        Evaluation.from_json(text)


def test_the_hash_is_of_the_content_alone() -> None:
    assert len(SPEC.hash) == 12
    assert replace(SPEC, sampling=dict(sorted(SPEC.sampling.items()))).hash == SPEC.hash
    assert replace(SPEC, seed=1).hash != SPEC.hash
    assert replace(SPEC, sampling={**SPEC.sampling, "steps": 51}).hash != SPEC.hash


def test_comparison_decides_by_the_interval() -> None:
    found = compare(
        evaluation(fid=2.0, kid=1.0, recall=0.5, fid_floor=1.0, fid_half=3),
        evaluation(fid=1.0, kid=0.95, recall=0.1, fid_floor=9, fid_half=2),
    )
    assert found["fid"].better
    assert found["fid"].change == -1.0
    assert found["fid"].margin == pytest.approx(
        0.1 * 2**0.5 * 2.576 / 1.96, rel=1e-3
    )  # of 99 %, as a difference must beat
    assert not found["kid"].better  # smaller, by less than the interval
    assert found["recall"].gain == pytest.approx(-0.4)
    assert not found.keys() & {"fid_floor", "fid_half"}  # say nothing that FID does not


def test_different_specs_are_not_compared() -> None:
    other = replace(SPEC, extractor_sha256="cd" * 32, sampling={"sampler": "ddim", "steps": 20})
    with pytest.raises(ConfigError) as caught:
        compare(evaluation(fid=1), evaluation(other, fid=1))
    line = str(caught.value)
    for part in ("extractor_sha256", "sampling.steps: 50 against 20", "sampling.eta: 0.3 against None"):
        assert part in line
    assert "generated_n" not in line
    assert caught.value.exit_code == 2
