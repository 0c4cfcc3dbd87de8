"""The page of every kind of model: trained for seconds, measured, registered, and read as a person would."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from e2e.recipes import ELSEWHERE, write_recipe
from PIL import Image

from langevin.config.load import load_recipe
from langevin.config.paths import features_folder
from langevin.config.recipe import Recipe
from langevin.data.reader import read_split
from langevin.errors import ConfigError, DataError
from langevin.evaluation.extractors import ConvExtractor
from langevin.randomness import Keys
from langevin.stages.compare import beside, compare, training_seconds
from langevin.stages.evaluate import evaluate
from langevin.stages.evaluator import Evaluator
from langevin.stages.extractor import make_extractor
from langevin.stages.generate import generate
from langevin.stages.levels import BINS, LOOKS, SEED, _binned, _looks
from langevin.stages.outputs import Outputs, read_json, write_json
from langevin.stages.prepare import prepare
from langevin.stages.promote import promote
from langevin.stages.report import report
from langevin.stages.search_report import report_search
from langevin.stages.subject import Subject
from langevin.stages.summary import summary
from langevin.stages.sweep import sweep
from langevin.stages.train import train
from langevin.training import checkpoint as checkpoints

from .test_search_report import SEARCH, result

CODEC = {"channels": 8, "multipliers": [1, 2], "blocks": 1}
UNET = {"channels": 8, "multipliers": [1, 2], "blocks": 1, "attention": []}
SHAPES: dict[str, Any] = {"source": "shapes", "root": "out/data/shapes", "size": 16, "count": 420}
SMALLER = SHAPES | {"root": "out/data/smaller", "size": 8, "reduced_from": 16}
SEEN = {"extractor": "out/codec/extractor", "images": 80, "curve_images": 60, "batch": 80}
TEXT = {"width": 8, "layers": 1, "heads": 2, "length": 96}
DDPM: dict[str, Any] = {"method": "ddpm", "network": UNET, "prediction": "velocity"}
BOUND = {"steps": 20, "calls": 2}
TRAIN = {"images": 128, "batch": 32, "workers": 0, "log_every": 32, "validate_every": 64, "checkpoint_every": 64}

KINDS: dict[str, dict[str, Any]] = {
    "vae": {"model": {"method": "vae", "dims": 4, "network": CODEC}, "sample": {"sampler": "own"},
            "bound": {"kind": "latent", "draws": 2}, "evaluate": {"extractor": "cnn", "images": 80, "curve_images": 60}},
    "ardm": {"model": {"method": "ardm", "network": UNET}, "sample": {"sampler": "autoregressive", "steps": 5},
             "bound": {"kind": "orders", "calls": 2},
             "evaluate": {"extractor": "out/vae/extractor", "images": 80, "curve_images": 60}},
    "codec": {"data": SHAPES, "model": {"method": "autoencoder", "adversarial": 0.0, "network": CODEC},
              "sample": {"sampler": "own"}, "bound": {"kind": "latent"}, "evaluate": SEEN | {"extractor": "cnn"}},
    "base": {"data": SMALLER, "model": DDPM, "sample": {"steps": 2}, "evaluate": SEEN | {"extractor": "cnn"}},
    "upper": {"data": SHAPES, "model": DDPM, "upsampling": {"lower": 8}, "sample": {"steps": 2}, "evaluate": SEEN},
    "pixels": {"data": SHAPES, "model": DDPM, "sample": {"steps": 2}, "evaluate": SEEN},
    "cascade": {"data": SHAPES, "model": {"method": "cascade", "base": "base", "stages": ["upper"]}, "train": None,
                "sample": {"sampler": "stages", "levels": [0.1]}, "evaluate": SEEN,
                "report": {"beside": ["pixels", "later"]}},
    "reading": {"data": SHAPES, "model": DDPM | {"condition": "caption", "text": TEXT}, "evaluate": SEEN,
                "sample": {"steps": 2, "guidance": 2.0}},
    "later": {"data": SHAPES, "model": DDPM, "evaluate": SEEN},
    "alone": {"data": SHAPES, "model": DDPM, "evaluate": SEEN | {"images": 70},
              "report": {"beside": ["pixels"]}},
}  # fmt: skip


class Made:
    """A home in which models are made when a test first asks for them, and kept for the next."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.pages: dict[str, str] = {}
        for name, changes in KINDS.items():
            write_recipe(home / f"{name}.yaml", **{"name": name, "train": TRAIN, "bound": BOUND} | changes)

    def recipe(self, name: str) -> Recipe:
        return load_recipe(self.home / f"{name}.yaml")

    def outputs(self, name: str) -> Outputs:
        return Outputs.of(self.recipe(name))

    def evaluated(self, name: str) -> Recipe:
        """Trained and measured, after what it is made of and the extractor by which it is seen."""
        recipe, outputs = self.recipe(name), self.outputs(name)
        if outputs.evaluation.is_file():
            return recipe
        if not (self.home / recipe.data.root).exists():
            prepare(recipe)
        if recipe.evaluate.extractor == "cnn":
            make_extractor(recipe)
        elif not (self.home / recipe.evaluate.extractor).exists():
            self.evaluated(Path(recipe.evaluate.extractor).parent.name)
        for part in {"cascade": ("base", "upper")}.get(name, ()):
            self.evaluated(part)
        train(recipe, self.home / f"{name}.yaml", 0, None)
        evaluate(recipe, self.home / f"{name}.yaml", 0, None)
        return recipe

    def page(self, name: str) -> str:
        if name not in self.pages:
            recipe, path = self.evaluated(name), self.home / f"{name}.yaml"
            promote(recipe, path)
            if name not in ("codec", "upper"):
                generate(recipe, path, {"images": 24, "unit": 12, "workers": 0}, None, None)
            self.pages[name] = self.again(name)
        return self.pages[name]

    def again(self, name: str) -> str:
        return Path(report(self.recipe(name), self.home / f"{name}.yaml")["page"]).read_text()

    def picture(self, name: str, picture: str) -> np.ndarray:
        return np.asarray(Image.open(self.outputs(name).report / f"{picture}.png").convert("RGB"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    before, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, {max(before)})  # small matrices: a second thread only waits
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("models")
        patch.setenv("LANGEVIN_HOME", str(home))
        yield Made(home)
    os.sched_setaffinity(0, before)
    torch.set_num_threads(threads)


@pytest.fixture
def made(models: Made, home: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    for name in ELSEWHERE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANGEVIN_HOME", str(models.home))
    return models


def headings(page: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", page)


def titles(page: str) -> list[str]:
    return re.findall(r"<h3>(.*?)</h3>", page)


def table(page: str, title: str) -> list[list[str]]:
    """The cells of a section's table, its head first."""
    section = page.split(f"<h2>{title}</h2>")[1].split("</section>")[0]
    rows = section.split("<tr>")[1:]
    return [re.findall(r"<t[hd][^>]*>(?:<span>)?(.*?)(?:</span>)?</t[hd]>", row) for row in rows]


def shows(picture: np.ndarray, image: np.ndarray, edge: int) -> bool:
    """Whether a picture holds an image (C, H, W) uint8, enlarged to about so many pixels."""
    factor = max(1, round(edge / image.shape[1]))
    wanted = image.transpose(1, 2, 0).repeat(3 // len(image), axis=2)
    windows = [
        picture[y : y + len(wanted[0]) * factor : factor, x : x + len(wanted[0]) * factor : factor]
        for y, x in np.argwhere((picture[:-1, :-1] != picture[1:, 1:]).any(axis=2)) + 1
    ]
    return any(window.shape == wanted.shape and (window == wanted).all() for window in windows)


def test_a_codec_shows_images_and_what_comes_back_and_draws_none(made: Made) -> None:
    page = made.page("codec")
    assert headings(page) == ["Images and what comes back", "Training", "Metrics", "Lineage"]
    assert titles(page)[-1] == "rFID over images seen"
    figures = read_json(made.outputs("codec").metrics, "evaluate")
    for label, name in (("rFID", "rfid"), ("PSNR", "psnr")):
        assert f'<dt>{label}</dt>\n      <dd class="value">{figures[name]["value"]:.4g}</dd>' in page
    assert "test images coded and decoded" in page
    assert "samples of seed" not in page
    subject = Subject.of(made.recipe("codec"), made.home / "codec.yaml")
    few, picture = subject.various(24).images, made.picture("codec", "reconstructions")
    for image in subject.bytes_of(torch.cat([few[:2], few[-1:], subject.model.reconstruct(few)[5:7]])):
        assert shows(picture, image, 132)
    said = summary(made.recipe("codec"))
    assert "rFID" in said
    assert "generated" not in said


def test_a_second_evaluation_looks_at_no_real_image_again(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, calls = made.evaluated("codec"), []
    features = ConvExtractor.features

    def counted(self: ConvExtractor, images: torch.Tensor) -> Any:
        calls.append(len(images))
        return features(self, images)

    monkeypatch.setattr(ConvExtractor, "features", counted)
    known = Evaluator(recipe).train.features
    assert calls == []
    shutil.rmtree(features_folder())  # which may be done at any time
    again = Evaluator(recipe)
    assert calls == [len(again.train.images), len(again.test.images)]
    assert torch.equal(again.train.features, known)


def test_various_images_are_of_every_class_in_turn(made: Made) -> None:
    made.evaluated("vae")
    promote(made.recipe("vae"), made.home / "vae.yaml")
    generate(made.recipe("vae"), made.home / "vae.yaml", {"images": 24, "unit": 12, "workers": 0}, None, None)
    subject = Subject.of(made.recipe("vae"), made.home / "vae.yaml")
    few = subject.various(24)
    assert few.labels is not None
    assert few.labels.tolist() == [number % 10 for number in range(24)]
    assert len(set(few.keys)) == 24


def test_a_vae_shows_a_plane_of_latents_and_ways_between_images(made: Made) -> None:
    page = made.page("vae")
    assert headings(page)[:3] == ["Samples", "Images and what comes back", "Latents"]
    assert "From noise to image" not in page  # its way has one step
    assert titles(page)[2:4] == ["A plane of latents", "Between test images"]
    assert any(row[0] == "NLL by weighted latents, bits/dim" for row in table(page, "Metrics"))
    subject = Subject.of(made.recipe("vae"), made.home / "vae.yaml")
    ends = subject.model.reconstruct(subject.various(24).images)
    shown = np.rint((ends.numpy() + 1) * 127.5).astype(np.uint8)
    picture = made.picture("vae", "interpolations")
    for place in (0, 1, 12, 23):
        assert shows(picture, shown[place], 66)
    assert not shows(made.picture("vae", "latents"), shown[0], 66)


def test_an_ardm_shows_its_steps_losses_and_the_bound_by_calls(made: Made) -> None:
    page = made.page("ardm")
    assert headings(page)[:3] == ["Samples", "From noise to image", "Steps and network calls"]
    assert titles(page)[2:4] == ["What each step loses", "Likelihood for fewer network calls"]
    figures = read_json(made.outputs("ardm").metrics, "evaluate")
    measured = (figures["nll_parallel"]["value"], figures["nll"]["value"])
    assert "{:.4g} at 5 calls, {:.4g} one value at a time".format(*measured) in page


def test_a_cascade_shows_what_it_is_made_of_and_what_it_is_compared_with(made: Made) -> None:
    shutil.rmtree(made.outputs("pixels").folder, ignore_errors=True)
    page = made.page("cascade")
    assert headings(page) == [
        "Samples", "From noise to image", "What it is made of", "Side by side", "Samples against the training images",
        "Metrics", "Lineage",
    ]  # fmt: skip
    head, base, upper = table(page, "What it is made of")
    assert head == ["model", "pixels", "FID", "recognised", "NLL, bits/dim", "training, s"]
    for name, row in (("base", base), ("upper", upper)):
        figures = read_json(made.outputs(name).metrics, "evaluate")
        margin = (figures["fid"]["high"] - figures["fid"]["low"]) / 2
        assert row[2] == f"{figures['fid']['value']:.4g} ± {margin:.2g}"
        assert row[3].startswith(f"{figures['recognised']['value']:.1%}")
    assert (base[:2], upper[:2]) == (["base", "8"], ["upper", "8 to 16"])
    assert upper[4] == "–"  # which has no bound
    assert len(table(page, "Side by side")) == 2
    assert "Not evaluated yet: pixels, later." in page

    made.evaluated("pixels")
    page = made.again("cascade")
    head, own, other = table(page, "Side by side")
    assert head == ["recipe", "FID", "recognised", "NLL, bits/dim", "network calls", "training, s"]
    assert (own[0], own[4], other[0], other[4]) == ("cascade", "4", "pixels", "2")
    assert "Not evaluated yet: later." in page
    parts = training_seconds(made.recipe("base")) + training_seconds(made.recipe("upper"))
    assert math.isclose(training_seconds(made.recipe("cascade")), parts)


def test_a_recipe_that_was_measured_otherwise_is_refused_beside_another(made: Made) -> None:
    made.evaluated("pixels")
    alone = made.evaluated("alone")
    with pytest.raises(ConfigError, match=r"measured otherwise than alone: generated_n is 80 and not 70"):
        beside(alone, made.home / "alone.yaml")
    with pytest.raises(ConfigError, match="measured otherwise than alone"):
        compare([made.home / "alone.yaml", made.home / "pixels.yaml"])
    missing = alone.model_copy(update={"report": alone.report.model_copy(update={"beside": ("nobody",)})})
    with pytest.raises(ConfigError, match=r"nobody.yaml.*there is no such recipe"):
        beside(missing, made.home / "alone.yaml")


def test_values_that_are_lists_stand_as_they_are_written(made: Made) -> None:
    recipe, path = made.evaluated("cascade"), made.home / "cascade.yaml"
    made.page("cascade")
    sweep(recipe, path, "levels", ["[0.3]", "[0.1]"], 60)
    page = made.again("cascade")
    made.outputs("cascade").sweep("levels").unlink()
    assert [row[0] for row in table(page, "Sweep of levels")[1:]] == ["0.3", "0.1"]
    assert titles(page)[2:4] == ["FID by levels", "Recognised as their class by levels"]


def test_what_stands_beside_is_no_part_of_the_training(made: Made) -> None:
    recipe = made.recipe("cascade")
    other = recipe.model_copy(update={"report": recipe.report.model_copy(update={"beside": ()})})
    assert recipe.training_hash("d") == other.training_hash("d")


def test_a_stage_alone_shows_what_it_makes_of_small_images(made: Made) -> None:
    page = made.page("upper")
    assert headings(page)[:2] == ["Enlarged", "From noise to image"]
    assert "8 pixels a side to 16." in page
    subject = Subject.of(made.recipe("upper"), made.home / "upper.yaml")
    means = torch.nn.functional.avg_pool2d(subject.various(24).images[3:5], 2)
    picture = made.picture("upper", "enlarged")
    for given in subject.bytes_of(means.repeat_interleave(2, -2).repeat_interleave(2, -1)):
        assert shows(picture, given, 132)


def test_a_model_that_reads_and_its_sweeps(made: Made) -> None:
    recipe, path = made.evaluated("reading"), made.home / "reading.yaml"
    sweep(recipe, path, "guidance", ["3", "1", "2"], 60)
    sweep(recipe, path, "threshold", ["dynamic", "static"], 60)
    page = made.page("reading")
    assert headings(page)[1:4] == ["From noise to image", "Sweep of guidance", "Sweep of threshold"]
    assert titles(page)[2:4] == ["FID by guidance", "What was asked for by guidance"]
    head, *rows = table(page, "Sweep of guidance")
    assert head[:3] == ["guidance", "calls", "FID"]
    assert head[-1] == "both right, new pairs"
    assert [row[0] for row in rows] == ["1", "2", "3"]  # numbers rise
    assert [row[1] for row in rows] == ["2", "4", "4"]
    assert [row[0] for row in table(page, "Sweep of threshold")[1:]] == ["dynamic", "static"]  # as it was asked
    saved = json.loads(made.outputs("reading").sweep("guidance").read_text())
    first = json.loads(saved["rows"][0]["evaluation"])["figures"]["fid"]["value"]
    assert rows[2][2].startswith(f"{first:.4g} ± ")
    names = [row[0] for row in table(page, "Metrics")]
    assert "captions of the test images: shape right" in names
    assert "captions of pairs never seen: shape and colour right" in names
    assert not [name for name in names if "_" in name]
    assert "As asked" in page
    assert "60 samples at each value" in page


def test_values_swept_on_another_checkpoint_or_otherwise_are_left_out(made: Made) -> None:
    recipe, path = made.evaluated("reading"), made.home / "reading.yaml"
    made.page("reading")
    place = made.outputs("reading").sweep("eta")
    try:
        sweep(recipe, path, "eta", ["0.0"], 70)
        sweep(recipe, path, "eta", ["0.5", "1.0"], 60)
        page = made.again("reading")
        assert [row[0] for row in table(page, "Sweep of eta")[1:]] == ["0.5", "1"]
        assert "Left out: 1 measured on another checkpoint or otherwise." in page
        said = json.loads(place.read_text())
        write_json(place, said | {"rows": [row | {"sha256": "another"} for row in said["rows"]]})
        assert "Sweep of eta" not in headings(made.again("reading"))
    finally:
        place.unlink()


def test_what_can_be_asked_for_images_needs_a_batch_job(made: Made) -> None:
    made.page("ardm")
    manifest = made.outputs("ardm").generated / "manifest.json"
    kept = manifest.rename(manifest.with_suffix(".kept"))
    with pytest.raises(DataError, match=r"manifest.json.*langevin generate"):
        made.again("ardm")
    kept.rename(manifest)


@pytest.mark.parametrize("name", ["codec", "vae", "ardm", "cascade", "upper", "reading"])
def test_every_page_is_complete_in_itself(made: Made, name: str) -> None:
    assert_complete(made.page(name))


def assert_complete(page: str) -> None:
    found = re.findall(r'(?:src|href|srcset)="([^"]*)"', page)
    assert len(found) > 3
    assert all(address.startswith("data:") for address in found)
    assert "<script" not in page
    assert len(re.findall(r'<img [^>]*alt="[^"]+"', page)) == len(re.findall("<img", page))
    assert len(re.findall("<source", page)) == len(re.findall("<img", page))  # every picture for dark pages too


def test_a_search_has_a_page_of_its_own(made: Made) -> None:
    made.evaluated("pixels")
    last = checkpoints.latest(next((made.home / "runs").glob("pixels-*/checkpoints")))
    assert last is not None
    found = {"checkpoint": str(last.folder.relative_to(made.home)), "sha256": last.sha256, "images": last.images}
    write_json(made.home / "out/search/search.json", result(found, "pixels"))
    write_json(made.home / "search.yaml", SEARCH | {"recipe": "pixels.yaml"})
    page = Path(report_search(made.home / "search.yaml")["page"]).read_text()
    assert headings(page) == [
        "Best setting", "Trainings", "Knobs that matter", "Pareto front", "Sampling settings", "Lineage",
    ]  # fmt: skip
    assert [row[:2] for row in table(page, "Best setting")[1:]] == [
        ["model.prediction", "velocity"], ["train.lr", "0.002"], ["steps", "4"], ["guidance", "1"],
    ]  # fmt: skip
    head, *rows = table(page, "Trainings")
    assert head == ["training", "prediction", "lr", "images", "FID", "network calls", "state"]
    assert [row[0] for row in rows] == ["aaaa", "0003", "0000", "0001"]  # the furthest first, then the best
    assert rows[0] == ["aaaa", "velocity", "0.002", "64", "8", "3", "complete"]
    assert "192 images were trained, 75.0% of what all of them whole would take." in page
    matter = table(page, "Knobs that matter")
    assert matter[1] == ["prediction = noise", "2", "30", "30.5"]  # at the rung that all reached
    shares = dict(re.findall(r"(model\.prediction|train\.lr) (\d+)%", page))
    assert int(shares["model.prediction"]) > 70
    assert [row[:5] for row in table(page, "Pareto front")[1:]] == [
        ["aaaa", "2", "1", "8.5 ± 0.5", "2"], ["aaaa", "4", "1", "7 ± 0.4", "4"],
    ]  # fmt: skip
    assert [row[-1] for row in table(page, "Sampling settings")[1:]] == ["128", "128", "64", "64"]
    assert "75% of what all settings at full number would take" in page
    assert "From noise to image" in page
    assert_complete(page)
    assert sorted(path.name for path in (made.home / "out/search/report").glob("*.png")) == [
        "front-network_calls.png", "importance.png", "trajectory.png", "trials.png",
    ]  # fmt: skip


def test_what_network_calls_buy_and_what_guidance_costs(made: Made) -> None:
    recipe, path = made.evaluated("reading"), made.home / "reading.yaml"
    sweep(recipe, path, "steps", ["4", "3"], 80)
    sweep(recipe, path, "guidance", ["1", "3"], 80)
    page = made.page("reading") if "reading" not in made.pages else made.again("reading")
    for field in ("steps", "guidance"):
        made.outputs("reading").sweep(field).unlink()
    assert {"FID against inception score by guidance", "Precision against recall by guidance"} <= set(titles(page))
    assert "Network calls" in headings(page)
    (said,) = re.findall(r"Better for fewer calls than all others: FID (.*)\.</p>", page)
    best = [(float(fid), int(count)) for fid, count in re.findall(r"([\d.e+]+) in (\d+) \(", said)]
    assert [count for _, count in best] == sorted({count for _, count in best})
    assert [fid for fid, _ in best] == sorted((fid for fid, _ in best), reverse=True)
    assert best[0][1] == 2  # guidance 1, which needs one call a step


def test_the_loss_by_level_is_where_training_looks(made: Made) -> None:
    """Equal shares of the looks, whose mean is the objective's; none of a model whose loss has no levels."""
    assert "Loss by noise level" in titles(made.page("reading"))
    assert "Loss by noise level" not in titles(made.page("vae"))
    model = Subject.of(made.recipe("reading"), made.home / "reading.yaml").model
    images = read_split(made.home / made.recipe("reading").data.root, "validation")
    looks = _looks(model, images)
    assert looks is not None
    times, figures = _binned(looks)
    assert times == sorted(times)
    assert len(times) == BINS
    assert {one.n for one in figures} == {LOOKS // BINS}
    assert np.mean([one.value for one in figures]) == pytest.approx(float(looks.loss.mean()))
    told = model.loss(images[:2], Keys(SEED, torch.arange(2)))
    assert told.total.tolist() == pytest.approx(looks.loss[:2].tolist())


def test_the_lineage_goes_down_to_the_shards_and_on_to_what_was_generated(made: Made) -> None:
    page = made.page("cascade")
    said = dict(re.findall(r"<li><span>(.*?)</span><code>(.*?)</code>", page))
    manifest = read_json(made.home / "out/data/shapes/manifest.json", "prepare")
    assert manifest["splits"]["train"]["shards"][0]["sha256"][:12] in said["data set"]
    assert said["made of"].startswith("upper (")  # of the parts the last one
    job = read_json(made.outputs("cascade").generated / "manifest.json", "generate")
    assert job["digest"] in said["generated"]
    assert job["shards"][0]["sha256"][:12] in said["generated"]
    assert str(made.home) not in page
