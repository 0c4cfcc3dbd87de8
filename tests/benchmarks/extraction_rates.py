"""Images a second by Inception: torch-fidelity's command line beside ours, by one thread, by two and by two workers of Ray.

    .venv/bin/python tests/benchmarks/extraction_rates.py FOLDER [--images 512] [--rounds 2]

FOLDER: of image files, searched deep; all of one size. Each contender is a process of its own that reads the same PNG files,
looks at them by the same weights (random ones, the time does not depend on them) and prints the inception score. What it
takes to start is taken off: the rate is that of what comes after the first few images. By turns, by the clock: give it free
cores.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from langevin.cluster.crew import crew
from langevin.evaluation.compatibility import fidelity, fidelity_part
from langevin.evaluation.crew import Threads
from langevin.evaluation.extractors import INCEPTION, load_extractor
from langevin.evaluation.inception import inception_score

FEW, BATCH = 128, 64  # images that a start is measured by; at a time, which is the default of theirs
THEIRS = "theirs"
CONTENDERS = {  # (who, how many at a time, threads an operation)
    "torch-fidelity, 1 thread": (THEIRS, 1, 1),
    "ours, 1 thread": ("threads", 1, 1),
    "torch-fidelity, 2 threads": (THEIRS, 1, 2),
    "ours, 2 threads": ("threads", 2, 1),
    "ours, 2 workers": ("workers", 2, 1),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--as", dest="who", help="one contender's process: who, how many, weights")
    given = parser.parse_args()
    if given.who:
        contend(given.folder, *given.who.split(",", 2))
        return
    files = sorted(path for path in given.folder.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    chosen = [files[place] for place in np.linspace(0, len(files) - 1, FEW + given.images).astype(int)]
    with tempfile.TemporaryDirectory() as temporary:
        few, many, weights = (Path(temporary) / name for name in ("few", "many", "weights.pth"))
        for folder, held in ((few, chosen[:FEW]), (many, chosen)):
            folder.mkdir()
            for number, file in enumerate(held):
                Image.open(file).convert("RGB").save(folder / f"{number:06d}.png")
        save_random(weights)
        rates: dict[str, list[float]] = {name: [] for name in CONTENDERS}
        for _ in range(given.rounds):
            for name, (who, count, threads) in CONTENDERS.items():
                start, whole = (seconds(folder, f"{who},{count},{weights}", threads) for folder in (few, many))
                rates[name].append(given.images / (whole - start))
                print(f"{name}: {rates[name][-1]:.2f} images/s, after {start:.1f} s of the first {FEW}", flush=True)
    print("\n| contender | images/s | beside torch-fidelity on as many cores |\n|---|---|---|")
    for name, found in rates.items():
        peer = rates["torch-fidelity, 1 thread" if CONTENDERS[name][1:] == (1, 1) else "torch-fidelity, 2 threads"]
        print(f"| {name} | {median(found):.2f} | {median(found) / median(peer):.2f} |")
    one = median(rates["ours, 1 thread"])
    for name in ("ours, 2 threads", "ours, 2 workers"):
        print(f"{name}: {median(rates[name]) / one:.2f} times ours by 1 thread")


def seconds(folder: Path, who: str, threads: int) -> float:
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, __file__, str(folder), "--as", who], check=True, stdout=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": str(threads), "RAY_AUTH_MODE": "token"},
    )  # fmt: skip
    return time.perf_counter() - started


def contend(folder: Path, who: str, count: str, weights: str) -> None:
    if who == THEIRS:
        fidelity()
        sys.argv = ["fidelity", "--isc", "--input1", str(folder), "--cpu", "--no-samples-shuffle", "--silent",
                    "--batch-size", str(BATCH), "--feature-extractor", INCEPTION,
                    "--feature-extractor-weights-path", weights]  # fmt: skip
        fidelity_part("fidelity").main()
        return
    images = read(folder)
    if who == "threads":
        logits = load_extractor(INCEPTION, weights, Threads(int(count))).features(images).logits
    else:
        with crew(None, int(count)) as hands:
            logits = load_extractor(INCEPTION, weights, hands).features(images).logits
    print(inception_score(logits, 0))


def read(folder: Path) -> Tensor:
    pixels = np.stack([np.asarray(Image.open(path)) for path in sorted(folder.iterdir())])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def save_random(place: Path) -> None:
    """Inception of random weights as a file of torch-fidelity's format."""
    part = fidelity_part("feature_extractor_inceptionv3")
    torch.manual_seed(0)
    load, part.load_state_dict_from_url = part.load_state_dict_from_url, lambda *_, **__: {}
    kept, torch.nn.Module.load_state_dict = torch.nn.Module.load_state_dict, lambda *_, **__: None  # type: ignore[assignment]
    try:
        blank = part.FeatureExtractorInceptionV3(INCEPTION, ["2048"])
    finally:
        part.load_state_dict_from_url, torch.nn.Module.load_state_dict = load, kept  # type: ignore[method-assign]
    torch.save(blank.state_dict(), place)


if __name__ == "__main__":
    main()
