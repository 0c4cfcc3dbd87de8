"""The interval of a difference on common noise: narrower than that of two strangers, and still honest."""

from __future__ import annotations

import functools
import math
import statistics
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from langevin.evaluation.bootstrap import Resampled, fid_figure, kid_figure, precision_recall_figures, resamples
from langevin.evaluation.fidelity import InceptionScore, kid
from langevin.evaluation.intervals import Figure, inception_figure, mean, share
from langevin.evaluation.paired import differences
from langevin.evaluation.rule import Rule
from langevin.evaluation.spread import Items, Resamples, Verdicts, apart
from langevin.evaluation.suite import Evaluation, MetricSpec, compare

REPEATS, N, DIMS, TIMES = 100, 100, 4, 24
SPEC = MetricSpec("gaussian", "ab" * 32, None, "test", N, "cd" * 16, N, 0, "none")
NAMES = ("fid", "kid", "precision", "recall", "nll")
Pairs = list[tuple[Evaluation, Evaluation]]


@dataclass(frozen=True)
class Gaussian:
    """A model whose features are Gaussian around ``off`` and whose NLL of a test image is what all models find hard of it,
    and a little of its own. common: how much of its noise it has from the seed, 0 .. 1; the rest is drawn anew.
    """

    off: float = 0.3
    common: float = 0.95
    nll: float = 2.0

    def measured(self, seed: int, own: int) -> Evaluation:
        """fid, kid, precision, recall and nll against the reference of a seed. own: seeds what is not common."""
        shared, fresh = (torch.Generator().manual_seed(number) for number in (seed, 10_000 + own))
        noise, reference, hard = (torch.randn(size, generator=shared) for size in ((N, DIMS), (N, DIMS), (N,)))
        rest, nll = torch.randn(N, DIMS, generator=fresh), torch.randn(N, generator=fresh)
        features = self.off + self.common * noise + math.sqrt(1 - self.common**2) * rest
        ours, real = (_resampled(one, seed, name) for one, name in ((features, "generated"), (reference, "reference")))
        precision, recall = precision_recall_figures(ours, real)
        return Evaluation(SPEC, {
            "fid": fid_figure(ours, real),
            "kid": kid_figure(kid(features, reference, seed, subsets=10), ours, real),
            "precision": precision,
            "recall": recall,
            "nll": mean(self.nll + 0.5 * hard + 0.05 * nll),
        })  # fmt: skip


def _resampled(features: Tensor, seed: int, name: str) -> Resampled:
    return Resampled(features, _counts(seed, name))


@functools.cache
def _counts(seed: int, name: str) -> Tensor:
    return resamples(seed, name, torch.zeros(N, dtype=torch.int64), TIMES)


def duels(champion: Gaussian, challenger: Gaussian) -> Pairs:
    """Each with noise, reference and trainings' luck of its own."""
    return [(champion.measured(k, 2 * k), challenger.measured(k, 2 * k + 1)) for k in range(REPEATS)]


def moved(rule: Rule, pairs: Pairs) -> int:
    """How often the challenger takes the champion's place."""
    return sum(
        rule.decide(compare(before, after, differences(before.figures, after.figures)), "it").won
        for before, after in pairs
    )


@pytest.fixture(scope="module")
def on_common_noise() -> Pairs:
    """Champion and challenger are one model, and most of their noise is the same."""
    return duels(Gaussian(), Gaussian())


@pytest.fixture(scope="module")
def on_other_noise() -> Pairs:
    """One model, and each draws its own noise."""
    return duels(Gaussian(common=0), Gaussian(common=0))


@pytest.fixture(params=["on_common_noise", "on_other_noise"])
def same(request: pytest.FixtureRequest) -> Pairs:
    pairs: Pairs = request.getfixturevalue(request.param)
    return pairs


def test_the_same_model_hardly_ever_moves_the_champion(same: Pairs) -> None:
    for name in NAMES:
        assert moved(Rule((name,)), same) <= 5, name
    assert moved(Rule(("fid",), ("nll", "recall")), same) <= 5


def test_a_better_model_moves_it_every_time() -> None:
    pairs = duels(Gaussian(off=0.7), Gaussian(off=0.3, nll=1.95))
    assert moved(Rule(("fid", "kid", "nll"), ("recall",)), pairs) == REPEATS
    assert moved(Rule(("fid",)), [(after, before) for before, after in pairs]) == 0


def test_the_interval_covers_the_difference(same: Pairs) -> None:
    """Which is 0."""
    found = [differences(before.figures, after.figures) for before, after in same]
    for name in NAMES:
        assert sum(one[name].low <= 0 <= one[name].high for one in found) >= 0.9 * REPEATS, name


def test_what_both_share_cancels(on_common_noise: Pairs, on_other_noise: Pairs) -> None:
    """The likelihood is of the same images, whatever the noise."""
    common, other = narrower(on_common_noise), narrower(on_other_noise)
    assert common["fid"] < 0.6
    assert common["kid"] < 0.6
    assert all(common[name] < other[name] < 1 for name in ("fid", "kid", "precision"))
    assert max(common["nll"], other["nll"]) < 0.2


def narrower(pairs: Pairs) -> dict[str, float]:
    """The paired interval's width as a share of two strangers': its median."""
    shares: dict[str, list[float]] = {name: [] for name in NAMES}
    for before, after in pairs:
        strangers, paired = compare(before, after), differences(before.figures, after.figures)
        for name in NAMES:
            shares[name].append(paired[name].margin / strangers[name].margin)
    return {name: statistics.median(values) for name, values in shares.items()}


def test_pairs_are_of_the_same_parts() -> None:
    a, b = torch.randn(2, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert apart(Items(a), Items(b)) == pytest.approx(float((b - a).std()) / math.sqrt(50))
    assert apart(Resamples(a, 0.5), Resamples(b, 0.25)) == pytest.approx(math.sqrt(float((b - a).var()) + 0.75))
    assert apart(Items(a), Items(b[:40])) is apart(Items(a), Resamples(b)) is apart(None, Items(a)) is None
    splits = inception_figure(InceptionScore(8.0, 0.3, 10), 50)  # says nothing of its parts
    figures = {"nll": mean(a), "inception_score": splits}
    assert differences(figures, {"nll": mean(b), "inception_score": splits, "fid": splits}).keys() == {"nll"}


def test_a_few_images_of_difference_prove_nothing() -> None:
    """Of pairs that only one gets right, 4 of 4 happen to the same model once in 8 times, 8 of 8 once in 128."""
    before = torch.zeros(200, dtype=torch.bool)
    for won, beyond in ((0, False), (4, False), (8, True)):
        after = before.clone()
        after[:won] = True
        found = differences({"x": share(before.tolist())}, {"x": share(after.tolist())})["x"]
        assert (found.low > 0) == beyond
    assert apart(Verdicts(before), Verdicts(before)) == pytest.approx(1 / 202)


def test_the_parts_are_not_kept() -> None:
    figure = share([True, False, True])
    again = Evaluation.from_json(Evaluation(SPEC, {"x": figure}).to_json()).figures["x"]
    assert (again.spread, again.n) == (None, 3)
    assert figure == replace(figure, spread=None)
    assert "spread" not in repr(figure)


def figure(value: float, margin: float) -> Figure:
    return Figure(value, value - margin, value + margin, N)


def test_the_rule_says_in_words_what_decided() -> None:
    before = Evaluation(SPEC, {"fid": figure(4, 0.1), "nll": figure(2, 0.1), "recall": figure(0.5, 0.1)})

    def said(fid: float, nll: float, rule: Rule) -> tuple[bool, str]:
        figures = {"fid": figure(fid, 0.1), "nll": figure(nll, 0.1), "recall": figure(0.5, 0.1), "kid": figure(0, 1)}
        paired = {"nll": figure(nll - 2, 0.01)}
        found = rule.decide(compare(before, Evaluation(SPEC, figures), paired), "version 3")
        return found.won, found.reason

    rule, fid = Rule(("fid",), ("nll",)), "fid 3 against 4, interval of the difference 0.14"
    assert said(3, 2.005, rule) == (
        True,
        f"better than version 3: {fid}; no worse: nll 2.005 against 2, interval of the difference 0.01 (paired)",
    )
    worse = (
        "worse than version 3 by more than the interval: nll 2.1 against 2, interval of the difference 0.01 (paired)"
    )
    assert said(3, 2.1, rule) == (False, worse)
    short = "not better than version 3 by more than the interval: fid 3.9 against 4, interval of the difference 0.14"
    assert said(3.9, 2.0, rule) == (False, short)
    assert said(3.9, 2.1, rule) == (False, f"{short}; {worse}")
    assert said(3, 2, Rule(("fid", "kid"))) == (False, "not compared with version 3, which has no kid")
