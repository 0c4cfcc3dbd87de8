"""What is generated too often or too seldom: classes, attributes, brightness and colours against the training images.

Everything is a table: how much of each category an image shows, such as 1 of its class, or so many pixels of each level
of red. Of two sets' tables the shares of the categories are compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from scipy import stats
from torch import Tensor
from torch.nn.functional import one_hot

from langevin.evaluation.intervals import Z
from langevin.randomness import Keys, Noise

PERMUTATIONS = 999
AUDITED = 10_000  # images of a set at most
LEVELS = 8  # of a colour
BINS = 10  # of the brightness, with as many training images in each
KEPT = 3  # gaps of an aspect


@dataclass(frozen=True)
class Table:
    """values: (N, K) >= 0, how much of each category an image shows; of: what the shares are shares of."""

    values: Tensor
    names: tuple[str, ...]
    of: str = "images"


@dataclass(frozen=True)
class Gap:
    """A category's shares in [0, 1], and the half-width of the 95 % interval of their difference."""

    category: str
    generated: float
    train: float
    margin: float

    @property
    def difference(self) -> float:
        return self.generated - self.train


@dataclass(frozen=True)
class Aspect:
    """distance: half of the sum of the shares' differences, in [0, 1]; chance: what it is where images are exchanged at
    random between the sets; p: the share of such exchanges with no smaller distance; gaps: the largest first.
    """

    distance: float
    chance: float
    p: float
    n: int
    of: str
    categories: int
    gaps: tuple[Gap, ...]

    @classmethod
    def of_json(cls, fields: Mapping[str, Any]) -> Aspect:
        return cls(**{**fields, "gaps": tuple(Gap(**gap) for gap in fields["gaps"])})


def audit(generated: Mapping[str, Table], train: Mapping[str, Table], seed: int) -> dict[str, Aspect]:
    """The aspects that both sets have, by name. Exchanges are drawn by the seed, the same for every aspect."""
    n, m = (len(next(iter(tables.values())).values) for tables in (generated, train))
    drawn = _exchanges(n, m, seed)
    return {name: _aspect(table, train[name], drawn) for name, table in generated.items()}


def largest(audited: Mapping[str, Aspect], count: int = 5) -> list[str]:
    """The largest gaps in words, of those that are more than chance at 5 % over all categories together (Bonferroni)."""
    categories = sum(aspect.categories for aspect in audited.values())
    wider = stats.norm.ppf(1 - 0.025 / categories) / Z if categories else 0.0
    found = [
        (abs(gap.difference), in_words(name, aspect, gap))
        for name, aspect in audited.items()
        for gap in aspect.gaps
        if abs(gap.difference) > wider * gap.margin
    ]
    return [said for _, said in sorted(found, key=lambda one: -one[0])[:count]]


def in_words(name: str, aspect: Aspect, gap: Gap) -> str:
    """class 3: 6.1 % of the generated, 10.2 % of the training images"""
    return f"{name} {gap.category}: {gap.generated:.1%} of the generated, {gap.train:.1%} of the training {aspect.of}"


def looks(images: Tensor, train: Tensor) -> dict[str, Table]:
    """Brightness and colours of images (N, C, H, W) uint8; bins of the brightness are the training images' own."""
    means = images.flatten(1).double().mean(dim=1) / 255
    of_train = train.flatten(1).double().mean(dim=1) / 255
    edges = of_train.quantile(torch.linspace(0, 1, BINS + 1, dtype=torch.float64)[1:-1]).unique()
    ends = ["0", *(f"{edge:.3f}" for edge in edges.tolist()), "1"]
    bins = tuple(f"{low} to {high}" for low, high in pairwise(ends))
    tables = {"brightness": Table(one_hot(torch.bucketize(means, edges), len(bins)).double(), bins)}
    colours = ("red", "green", "blue") if images.shape[1] == 3 else ("grey",) * (images.shape[1] == 1)
    width = 256 // LEVELS
    levels = tuple(f"{low} to {low + width - 1}" for low in range(0, 256, width))
    for channel, colour in enumerate(colours):
        level = images[:, channel].flatten(1).long() // width
        shown = torch.zeros(len(images), LEVELS, dtype=torch.float64).scatter_add(
            1, level, torch.ones(level.shape).double()
        )
        tables[colour] = Table(shown, levels, "pixels")
    return tables


def categorical(values: Sequence[int] | Tensor, names: Sequence[str]) -> Table:
    """An image's one category, by its number."""
    return Table(one_hot(torch.as_tensor(values, dtype=torch.int64), len(names)).double(), tuple(names))


def _exchanges(n: int, m: int, seed: int) -> Tensor:
    """(PERMUTATIONS, n + m) 1 where an image counts as generated: n of each row."""
    like, drawn = torch.empty(1, n + m), []
    rows = max(1, 2**20 // (n + m))  # of noise in memory at a time: some 10^6 numbers
    for start in range(0, PERMUTATIONS, rows):
        keys = Keys.range(seed, start, min(start + rows, PERMUTATIONS))
        uniform = Noise(keys).uniform("audit", like.expand(len(keys), -1))
        drawn.append(torch.zeros(uniform.shape, dtype=torch.float64).scatter_(1, uniform.topk(n).indices, 1.0))
    return torch.cat(drawn)


def _aspect(generated: Table, train: Table, drawn: Tensor) -> Aspect:
    both = torch.cat([generated.values, train.values])
    first = drawn @ both
    second = both.sum(dim=0) - first
    by_chance = (_shares(first) - _shares(second)).abs().sum(dim=1) / 2
    ours, theirs = _shares(generated.values.sum(dim=0)), _shares(train.values.sum(dim=0))
    distance = float((ours - theirs).abs().sum() / 2)
    margins = Z * (_variance(generated.values, ours) + _variance(train.values, theirs)).sqrt()
    rows = zip(generated.names, ours.tolist(), theirs.tolist(), margins.tolist(), strict=True)
    p = (1 + int((by_chance >= distance - 1e-12).sum())) / (1 + len(by_chance))
    chance = float(by_chance.mean())
    gaps = sorted((Gap(*row) for row in rows), key=lambda gap: -abs(gap.difference))
    return Aspect(distance, chance, p, len(generated.values), generated.of, len(gaps), tuple(gaps[:KEPT]))


def _shares(sums: Tensor) -> Tensor:
    """(..., K) -> shares that sum to 1, or to 0 where nothing is shown at all."""
    return sums / sums.sum(dim=-1, keepdim=True).clamp_min(1e-300)


def _variance(values: Tensor, shares: Tensor) -> Tensor:
    """(K,) of the shares, as ratios of means over independent images, to first order (Cochran 1977, section 2.11)."""
    weight = values.sum(dim=1, keepdim=True)
    rests = values - shares * weight
    n, mean = len(values), max(float(weight.mean()), math.ulp(1.0))
    return rests.square().sum(dim=0) / max(n - 1, 1) / n / mean**2
