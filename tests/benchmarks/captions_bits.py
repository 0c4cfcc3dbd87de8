"""Autoregressive diffusion of text: bits a character of captions that were never seen, beside what they hold and bzip2.

    .venv/bin/python tests/benchmarks/captions_bits.py [--texts 38400] [--threads 2]

The same code as for the digits (methods/ardm.py, the training loop, the policy), a transformer over bytes in the UNet's
place. The corpus is the captions of the data set ``shapes`` alone, no picture is drawn: scenes 0 .. 19,999 but every tenth
train, every tenth tests. Prints the bound, what parallel generation costs, the source's own entropy, the general
compressors' rate of the test captions after having read the training ones, and captions that the model writes.
"""

from __future__ import annotations

import argparse
import bz2
import lzma
import math
import time
from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor
from training_rates import Silent

from langevin.data.records import as_captions
from langevin.data.sources.shapes import SEEN, Shapes
from langevin.methods.ardm import Drawing, TextARDM
from langevin.networks.tokens import TokenTransformer
from langevin.protocols import Batch
from langevin.randomness import Keys
from langevin.training.ema import EMA
from langevin.training.loop import Plan, fit
from langevin.training.optimiser import Cosine, LearningRate, adamw
from langevin.training.state import TrainState

LENGTH, BATCH, SEED, CALLS = 100, 64, 0, 20


def corpus() -> tuple[list[str], list[str]]:
    """(training, test) captions of scenes whose pairs are all among the seen ones."""
    source = Shapes(64, 20_000)
    texts = [source.scene(index).caption for index in range(len(source)) if source.split_of(index) is None]
    return [text for place, text in enumerate(texts) if place % 10], texts[::10]


def entropy(texts: list[str]) -> float:
    """Bits a caption of the source: what it draws, each at its own chances; the relations' as they occur."""
    relations = Counter(
        word for text in texts for word in ("left of", "right of", "above", "below") for _ in range(text.count(word))
    )
    total = sum(relations.values())
    relation = -sum(n / total * math.log2(n / total) for n in relations.values())
    counts = (0.6, 0.3, 0.1)
    objects = sum(p * n for n, p in enumerate(counts, 1))
    return (
        -sum(p * math.log2(p) for p in counts)
        + math.log2(3)
        + objects * (math.log2(len(SEEN)) + 1)
        + (objects - 1) * relation
    )


def batches(captions: Tensor) -> Iterator[Batch]:
    """For ever, each epoch in an order of its own."""
    blank, seen = torch.zeros(BATCH, 1, 1, 1), 0
    while True:
        order = torch.randperm(len(captions), generator=torch.Generator().manual_seed(seen))
        for places in order[: len(order) // BATCH * BATCH].split(BATCH):
            yield Batch(blank, None, torch.arange(seen, seen + BATCH), ("",) * BATCH, captions[places])
            seen += BATCH


def of(captions: Tensor) -> Batch:
    count = len(captions)
    return Batch(torch.zeros(count, 1, 1, 1), None, torch.arange(count), ("",) * count, captions)


def packed(train: list[str], test: list[str]) -> dict[str, float]:
    """Bits a character of the test captions where a compressor has read the training ones before."""
    first, both = "\n".join(train).encode(), "\n".join([*train, *test]).encode()
    characters = sum(map(len, test))
    tools = {"bzip2": lambda text: bz2.compress(text, 9), "xz": lambda text: lzma.compress(text, preset=9)}
    return {name: 8 * (len(pack(both)) - len(pack(first))) / characters for name, pack in tools.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts", type=int, default=38_400)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    train, test = corpus()
    torch.manual_seed(SEED)
    model = TextARDM(
        TokenTransformer(LENGTH, 96, 4, 4), (LENGTH,), 256, dropped=0.0, drawing=Drawing(CALLS), calls=LENGTH
    )
    state = TrainState(model, EMA(model, 0.995), adamw(model, 0.0, (0.9, 0.99)))
    plan = Plan(given.texts, BATCH, SEED, LearningRate(2e-3, 3200, Cosine(given.texts)), 1.0, *(given.texts,) * 3)
    began = time.perf_counter()
    fit(state, batches(as_captions(train)), plan, Silent())
    seconds = time.perf_counter() - began
    model, some = state.serving, of(as_captions(test)[:512])
    characters = (model.tokens(some) > 0).sum()
    bits = model.bits_per_character(some, Keys(1, some.ordinals))
    parallel = float(model.parallel_bound(some, Keys(1, some.ordinals)).sum() / math.log(2) / characters)
    length = sum(map(len, test)) / len(test)
    print(
        f"{sum(p.numel() for p in model.parameters()):,} parameters, {given.texts:,} captions in {seconds:.0f} s, seed {SEED}\n"
    )
    print("| of the test captions | bits / character |\n|---|---|")
    print(f"| the bound, one token at a time | {bits:.3f} |\n| in {CALLS} network calls | {parallel:.3f} |")
    print(f"| the source's entropy | {entropy(train) / length:.3f} |")
    for name, rate in packed(train, test).items():
        print(f"| {name}, after the training captions | {rate:.3f} |")
    written = model.sample(Keys.range(2, 0, 6), None)
    print("\nwritten:", *(bytes(row[row > 0].tolist()).decode(errors="replace") for row in written), sep="\n  ")


if __name__ == "__main__":
    main()
