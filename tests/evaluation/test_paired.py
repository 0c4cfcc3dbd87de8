"""The interval of a difference on common noise: narrower than that of two strangers, and still honest."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, replace

import pytest
import torch

from langevin.evaluation.comparison import Comparison, compare
from langevin.evaluation.frechet import extrapolated, fid_figure
from langevin.evaluation.inception import inception_figure
from langevin.evaluation.intervals import Figure, mean, share
from langevin.evaluation.kid import kid_figure
from langevin.evaluation.neighbours import neighbour_figures
from langevin.evaluation.paired import differences
from langevin.evaluation.rule import Rule
from langevin.evaluation.sets import FeatureSet
from langevin.evaluation.spread import Influences, Part, Verdicts, apart
from langevin.evaluation.suite import Evaluation, MetricSpec

REPEATS, N, DIMS = 100, 100, 4
SPEC = MetricSpec("gaussian", "ab" * 32, None, "test", N, "cd" * 16, N, 0, "none")
FRECHET = ("fid", "fid_infinity")
NAMES = (*FRECHET, "kid", "inception_score", "precision", "recall", "density", "coverage", "nll")


@dataclass(frozen=True)
class Gaussian:
    """A model whose features are Gaussian around ``off`` and whose NLL of a test image is what all models find hard of it,
    and a little of its own. common: how much of its noise it has from the seed, 0 .. 1; the rest is drawn anew.
    """

    off: float = 0.3
    common: float = 0.95
    nll: float = 2.0

    def measured(self, seed: int, own: int) -> Evaluation:
        """Every figure against the reference of a seed. own: seeds what is not common."""
        shared, fresh = (torch.Generator().manual_seed(number) for number in (seed, 10_000 + own))
        noise, reference, hard = (torch.randn(size, generator=shared) for size in ((N, DIMS), (N, DIMS), (N,)))
        rest, nll = torch.randn(N, DIMS, generator=fresh), torch.randn(N, generator=fresh)
        features = self.off + self.common * noise + math.sqrt(1 - self.common**2) * rest
        ours, real = FeatureSet.of(features, seed, "generated"), FeatureSet.of(reference, seed, "reference")
        whole = fid_figure(ours, real)
        return Evaluation(SPEC, {
            "fid": whole,
            **extrapolated(whole, ours, real),
            "kid": kid_figure(ours, real, seed, subsets=20),
            "inception_score": inception_figure(2 * features, ours.strata, seed),
            **neighbour_figures(ours, real),
            "nll": mean(self.nll + 0.5 * hard + 0.05 * nll),
        })  # fmt: skip


@dataclass(frozen=True)
class Duel:
    before: Evaluation
    after: Evaluation
    apart: dict[str, Figure]
    compared: dict[str, Comparison]

    @classmethod
    def of(cls, before: Evaluation, after: Evaluation) -> Duel:
        apart = differences(before.figures, after.figures)
        return cls(before, after, apart, compare(before, after, apart))


def duels(champion: Gaussian, challenger: Gaussian, repeats: int = REPEATS) -> list[Duel]:
    """Each with noise, reference and trainings' luck of its own."""
    return [Duel.of(champion.measured(k, 2 * k), challenger.measured(k, 2 * k + 1)) for k in range(repeats)]


def moved(rule: Rule, fought: list[Duel]) -> int:
    """How often the challenger takes the champion's place."""
    return sum(rule.decide(one.compared, "it").won for one in fought)


@pytest.fixture(scope="module")
def on_common_noise() -> list[Duel]:
    """Champion and challenger are one model, and most of their noise is the same."""
    return duels(Gaussian(), Gaussian())


@pytest.fixture(scope="module")
def on_other_noise() -> list[Duel]:
    """One model, and each draws its own noise."""
    return duels(Gaussian(common=0), Gaussian(common=0))


@pytest.fixture(params=["on_common_noise", "on_other_noise"])
def same(request: pytest.FixtureRequest) -> list[Duel]:
    fought: list[Duel] = request.getfixturevalue(request.param)
    return fought


def test_the_same_model_hardly_ever_moves_the_champion(same: list[Duel]) -> None:
    """5 in 100 at most are asked for; one in 200 is what a difference of 2.58 deviations leaves to chance."""
    for name in NAMES:
        assert moved(Rule((name,)), same) <= 3, name
    assert moved(Rule(("fid",), ("nll", "recall")), same) <= 3


def test_a_better_model_moves_it_every_time() -> None:
    fought = duels(Gaussian(off=0.7), Gaussian(off=0.3, nll=1.95), 40)
    assert moved(Rule(("fid", "kid", "nll"), ("recall",)), fought) == 40
    assert moved(Rule(("fid",)), [Duel.of(one.after, one.before) for one in fought]) == 0


def test_the_interval_covers_the_difference(same: list[Duel]) -> None:
    """Which is 0."""
    for name in NAMES:
        assert sum(one.apart[name].low <= 0 <= one.apart[name].high for one in same) >= 0.9 * REPEATS, name


def test_what_both_share_cancels(on_common_noise: list[Duel], on_other_noise: list[Duel]) -> None:
    """The likelihood is of the same images, whatever the noise."""
    common, other = narrower(on_common_noise), narrower(on_other_noise)
    assert common["fid"] < 0.6
    assert max(common["kid"], common["inception_score"], common["density"]) < 0.6
    assert all(common[name] < other[name] < 1 for name in ("fid", "precision"))
    assert max(common["nll"], other["nll"]) < 0.2


def narrower(fought: list[Duel]) -> dict[str, float]:
    """The paired interval's width as a share of two strangers': its median."""
    shares: dict[str, list[float]] = {name: [] for name in NAMES}
    for one in fought:
        for name in NAMES:
            strangers = math.hypot(one.before.figures[name].margin, one.after.figures[name].margin)
            shares[name].append(one.apart[name].margin / strangers)
    return {name: statistics.median(values) for name, values in shares.items()}


def test_pairs_are_of_the_same_parts() -> None:
    a, b = torch.randn(2, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    one, other = Influences.of(a), Influences.of(b)
    assert apart(one, other) == pytest.approx(float((b - a).std()) / math.sqrt(50))
    both = [
        Influences((*which.parts, Part(values, torch.zeros(50).long()))) for which, values in ((one, b), (other, b))
    ]
    assert apart(*both) == pytest.approx(apart(one, other))  # what is equal in both cancels
    assert apart(one, Influences.of(b[:40])) is apart(one, both[0]) is apart(one, Verdicts(a > 0)) is None
    assert apart(None, one) is None
    unknown = Figure(8.0, 7.9, 8.1, 50)  # says nothing of its parts
    figures = {"nll": mean(a), "inception_score": unknown, "fid_half": mean(a), "fid_floor": mean(a)}
    assert differences(figures, figures | {"nll": mean(b), "fid": unknown}).keys() == {"nll"}


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

    rule, fid = Rule(("fid",), ("nll",)), "fid 3 against 4, 99 % interval of the difference 0.19"
    assert said(3, 2.005, rule) == (
        True,
        f"better than version 3: {fid}; no worse: nll 2.005 against 2, 99 % interval of the difference 0.013 (paired)",
    )
    worse = "worse than version 3 by more than the interval: nll 2.1 against 2, 99 % interval of the difference 0.013 (paired)"
    assert said(3, 2.1, rule) == (False, worse)
    short = (
        "not better than version 3 by more than the interval: fid 3.9 against 4, 99 % interval of the difference 0.19"
    )
    assert said(3.9, 2.0, rule) == (False, short)
    assert said(3.9, 2.1, rule) == (False, f"{short}; {worse}")
    assert said(3, 2, Rule(("fid", "kid"))) == (False, "not compared with version 3, which has no kid")
