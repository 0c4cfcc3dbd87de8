"""Batch generation and the report of models that read captions: prompts from a file, from the recipe, from the data."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from e2e.recipes import write_recipe
from PIL import Image

from langevin.config.assembly import assembled
from langevin.config.load import build, description, load_recipe, restore
from langevin.data.manifest import Manifest
from langevin.data.reader import read_split
from langevin.data.records import as_captions, texts_of
from langevin.errors import ConfigError
from langevin.evaluation.intervals import Figure
from langevin.evaluation.suite import Evaluation, MetricSpec
from langevin.generation.writer import read_images
from langevin.methods.cascade import of_stage
from langevin.randomness import Keys
from langevin.stages import generate as stage
from langevin.tracking.registry import CHECKPOINT_TAG, Registry
from langevin.tracking.store import tracking_uri
from langevin.training import checkpoint as checkpoints
from langevin.training.checkpoint import Checkpoint

from .conftest import Call, run

TEXTS = ("a small red circle on grey", "ein roter Würfel", "青い立方体")
TEXT = {"width": 8, "layers": 1, "heads": 2, "length": 40}
NETWORK = {"channels": 8, "multipliers": [1, 2], "blocks": 1}
READING = {
    "name": "reading",
    "data": {"source": "shapes", "root": "out/data/shapes", "size": 16, "count": 60},
    "model": {"method": "ddpm", "network": NETWORK, "prediction": "velocity", "condition": "caption", "text": TEXT},
    "sample": {"steps": 3, "guidance": 2.0, "threshold": "dynamic", "negative": "blurred"},
    "generate": {"images": 10, "unit": 4, "workers": 0},
}  # fmt: skip


def recipe_of(home: Path, **changes: Any) -> Path:
    return write_recipe(home / f"{changes.get('name', 'reading')}.yaml", **READING | changes)


def registered(home: Path, name: str, module: Any, said: dict[str, Any]) -> Checkpoint:
    """A checkpoint with random weights in the registry, as its champion; a cascade has its parts'."""
    torch.manual_seed(1)
    noise = 0.0 if "parts" in said else 0.1
    state = {key: value + noise * torch.randn(value.shape) if value.is_floating_point() else value
             for key, value in module.state_dict().items()}  # fmt: skip
    saved = checkpoints.save_average(home / "runs" / name / "000000000064", state, 64, said)
    lineage = ("dataset_name", "dataset_digest", "git_commit", "recipe_hash", "run_name")
    tags = {f"langevin.{tag}": tag for tag in lineage} | {"langevin.git_dirty": "false", "langevin.images": "64"}
    registry = Registry(tracking_uri(home))
    version = registry.register(name, str(saved.folder), None, tags | {CHECKPOINT_TAG: saved.sha256})
    registry.set_alias(name, "champion", version)
    return saved


def built(home: Path, recipe: Path) -> None:
    loaded = load_recipe(recipe)
    manifest = Manifest.load(home / loaded.data.root)
    registered(home, loaded.name, build(loaded, manifest), description(loaded, manifest))


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the shapes, a model of captions and one of classes, and their recipes."""
    home = tmp_path_factory.mktemp("reading")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LANGEVIN_HOME", str(home))
        recipe = recipe_of(home)
        classes = {"method": "ddpm", "network": NETWORK, "prediction": "velocity"}
        told = recipe_of(home, name="classes", model=classes, sample={"steps": 3})
        assert run("prepare", recipe) == 0
        built(home, recipe)
        built(home, told)
    (home / "prompts.txt").write_text("\n\n".join(TEXTS) + "\n")
    return home


@pytest.fixture
def home(reading: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same home for all: each test writes to a folder of its own."""
    monkeypatch.setenv("LANGEVIN_HOME", str(reading))
    return reading


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_a_file_of_prompts_becomes_images_with_their_prompts(call: Call, home: Path, tmp_path: Path) -> None:
    """With dynamic thresholds and a negative text: what is stored is what the model samples of these prompts."""
    found = call("generate", home / "reading.yaml", "--prompts", home / "prompts.txt", "--out", tmp_path, "--json")
    assert found.code == 0, found.lines
    with tarfile.open(tmp_path / "samples-00001.tar") as tar:
        assert tar.getnames()[:3] == [f"sample-000000004.{ending}" for ending in ("json", "png", "txt")]
    generated = read_images(tmp_path)
    assert generated.prompts == tuple(TEXTS[i % 3] for i in range(10))
    request = json.loads((tmp_path / "manifest.json").read_text())["request"]
    assert (request["prompts"], request["sampling"]["negative"]) == (list(TEXTS), "blurred")
    assert request["sampling"]["threshold"] == "dynamic"
    model = restore(checkpoints.read(home / "runs/reading/000000000064"))
    images = model.sample(Keys.range(2, 0, 10), as_captions(generated.prompts))
    assert np.abs(generated.images - (images.numpy() + 1) * 127.5).max() < 0.51
    assert len({image.tobytes() for image in generated.images}) == 10


def test_stopped_and_run_again_it_gives_the_same_bytes(call: Call, home: Path, tmp_path: Path) -> None:
    asked = ("generate", home / "reading.yaml", "--prompts", home / "prompts.txt", "--out")
    assert call(*asked, tmp_path / "a").code == 0
    whole = contents(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for name in ("manifest.json", "samples-00001.json", "samples-00002.tar"):
        (tmp_path / "b" / name).unlink()
    untouched = (tmp_path / "b" / "samples-00000.tar").stat().st_mtime_ns
    assert call(*asked, tmp_path / "b").code == 0
    assert contents(tmp_path / "b") == whole
    assert (tmp_path / "b" / "samples-00000.tar").stat().st_mtime_ns == untouched
    (tmp_path / "others.txt").write_text("others")
    other = call("generate", home / "reading.yaml", "--prompts", tmp_path / "others.txt", "--out", tmp_path / "b")
    assert other.code == 2
    assert "holds the images of another request" in other.line


def test_the_recipe_may_name_the_file_by_its_place_in_the_home(call: Call, home: Path, tmp_path: Path) -> None:
    generate = READING["generate"] | {"prompts": "prompts.txt", "images": 2}
    recipe = write_recipe(tmp_path / "r.yaml", **READING | {"generate": generate})
    assert call("generate", recipe, "--out", tmp_path / "out").code == 0
    assert read_images(tmp_path / "out").prompts == TEXTS[:2]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["request"]["prompts"] == list(TEXTS[:2])  # the third decides nothing


def test_without_a_file_it_is_asked_for_the_test_images_captions(call: Call, home: Path, tmp_path: Path) -> None:
    assert call("generate", home / "reading.yaml", "--out", tmp_path).code == 0
    captions = read_split(home / "out/data/shapes", "test").captions
    assert captions is not None
    known = texts_of(captions)
    assert len(known) < 12
    assert read_images(tmp_path).prompts == tuple(known[i % len(known)] for i in range(10))


def test_a_class_model_goes_on_as_it_was(call: Call, home: Path, tmp_path: Path) -> None:
    assert call("generate", home / "classes.yaml", "--out", tmp_path).code == 0
    found = read_images(tmp_path)
    assert found.prompts is None
    assert found.labels is not None
    assert found.labels.tolist() == list(range(10))
    assert "prompts" not in json.loads((tmp_path / "manifest.json").read_text())["request"]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", ["holds no prompt", "write one a line"]),
        (b" \n\r\n\n", ["holds no prompt"]),
        (b"fine\n\nbl\xe4u\n", ["line 3 = b'bl\\xe4u'", "is no UTF-8", "byte 3", "save it as UTF-8"]),
        (b"x\0y\n", ["line 1", "zero byte", "remove it"]),
        (b"fine\n" + b"y" * 41 + b"\n", ["line 2 = 'yyy", "has 41 bytes, and the model reads 40", "shorten it"]),
        ("ü".encode() * 21, ["line 1", "has 42 bytes, and the model reads 40"]),
        (None, ["cannot be read (No such file or directory)", "give a file"]),
    ],
)
def test_a_file_that_holds_no_prompts(
    call: Call, home: Path, tmp_path: Path, content: bytes | None, named: list[str]
) -> None:
    path = tmp_path / "p.txt"
    if content is not None:
        path.write_bytes(content)
    found = call("generate", home / "reading.yaml", "--prompts", path, "--out", tmp_path / "out")
    assert found.code == 2
    assert found.line.startswith(f"langevin: {path}: ")
    assert [part for part in named if part not in found.line] == []
    assert not (tmp_path / "out").exists()


def test_a_file_as_other_systems_write_them(call: Call, home: Path, tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\n  two three \r\n" + b"y" * 40)
    assert (
        call("generate", home / "reading.yaml", "--prompts", path, "--images", "3", "--out", tmp_path / "o").code == 0
    )
    assert read_images(tmp_path / "o").prompts == ("one", "two three", "y" * 40)


def test_prompts_for_a_model_of_classes(call: Call, home: Path, tmp_path: Path) -> None:
    prompts = home / "prompts.txt"
    found = call("generate", home / "classes.yaml", "--prompts", prompts, "--out", tmp_path / "out")
    assert found.code == 2
    assert found.line.startswith(f"langevin: {home / 'classes.yaml'}: generate.prompts = '{prompts}': ")
    assert "told classes; remove it, or name a model of captions" in found.line


def test_no_prompts_and_no_data(call: Call, home: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", **READING | {"data": READING["data"] | {"root": "out/none"}})
    found = call("generate", recipe, "--out", tmp_path / "out")
    assert found.code == 2
    assert found.line.startswith(f"langevin: {recipe}: generate.prompts: ")
    assert "give a file of prompts, one a line, here or by --prompts" in found.line


@pytest.mark.parametrize(
    ("sample", "model", "named"),
    [
        ({"negative": "b"}, {}, ["sample.negative = 'b'", "off at 1.0", "raise sample.guidance"]),
        (
            {"negative": "b", "guidance": 2.0},
            {"condition": "class", "text": None},
            ["told classes", "remove it, or give"],
        ),
        ({"negative": "y" * 41, "guidance": 2.0}, {}, ["has 41 bytes, of which model.text reads 40", "shorten it"]),
        ({"negative": "a\0b", "guidance": 2.0}, {}, ["zero byte"]),
        ({"negative": "b", "guidance": 2.0}, {"method": "guided"}, ["knows classes only"]),
    ],
)
def test_a_negative_that_means_nothing(
    call: Call, empty: Path, sample: dict[str, Any], model: dict[str, Any], named: list[str]
) -> None:
    """Said when the recipe is read."""
    recipe = recipe_of(empty, sample=sample, model=READING["model"] | model)
    found = call("show", recipe)
    assert found.code == 2
    assert found.line.startswith(f"langevin: {recipe}: ")
    assert [part for part in named if part not in found.line] == []


def test_away_from_a_text_a_model_needs_no_images_without_one(call: Call, empty: Path) -> None:
    never = READING["model"] | {"condition_dropout": 0.0}
    assert call("show", recipe_of(empty, model=never)).code == 0
    refused = call("show", recipe_of(empty, model=never, sample={"guidance": 2.0}))
    assert "model.condition_dropout = 0.0" in refused.line


def test_a_negative_for_a_registered_model_of_classes(call: Call, home: Path, tmp_path: Path) -> None:
    found = call("generate", home / "reading.yaml", "--model", "models:/classes@champion", "--out", tmp_path / "out")
    assert found.code == 2
    assert "sample.negative = 'blurred'" in found.lines[-1]
    assert sum(line.startswith("langevin: ") for line in found.lines) == 1


def test_the_thin_client_passes_the_prompts_on(
    call: Call, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job, here in this process, is the same command with the options that it is given."""
    sent: list[Sequence[str]] = []

    def submit(command: str, recipe: Path, address: str, name: str, options: Sequence[str]) -> None:
        sent.append(options)
        assert run(command, recipe, *options) == 0

    monkeypatch.setattr(stage, "submit", submit)
    monkeypatch.chdir(tmp_path)
    Path("out").mkdir()
    for place in ("mine.txt", "out/mine.txt"):
        shutil.copy(home / "prompts.txt", place)
    elsewhere = {name: str(name) for name in (home / "prompts.txt", tmp_path / "out/mine.txt")}  # out is not sent
    for prompts, passed in ({"mine.txt": "mine.txt"} | elsewhere).items():
        out = tmp_path / "generated" / str(len(sent))
        address = ("--address", "http://127.0.0.1:1", "--out", out)
        found = call("generate", home / "reading.yaml", "--prompts", prompts, *address)
        assert found.code == 0, found.lines
        options = list(sent[-1])
        assert options[options.index("--prompts") + 1] == passed
        assert read_images(out).prompts == tuple(TEXTS[i % 3] for i in range(10))
    assert call("generate", home / "reading.yaml", "--address", "http://127.0.0.1:1", "--out", tmp_path / "x").code == 0
    assert "--prompts" not in sent[-1]


def trained(home: Path, name: str, said: dict[str, Any]) -> Any:
    """A model with random weights as `langevin train` leaves it, and in the registry."""
    folder = registered(home, name, assembled(said), said).folder
    place = home / "out" / name / "training.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps({"checkpoint": str(folder.relative_to(home))}))
    return restore(checkpoints.read(folder))


def test_a_cascade_is_asked_as_its_base_is(call: Call, home: Path, tmp_path: Path) -> None:
    """The shortest of its encoders counts; a stage alone draws nothing."""
    data = {"digest": "d", "name": "n", "levels": 256, "classes": ["a"], "captions": True}
    shapes = {side: data | {"shape": [3, side, side]} for side in (8, 16)}
    guided, short = {"steps": 2, "guidance": 2.0, "negative": "b"}, READING["model"] | {"text": TEXT | {"length": 30}}
    upsampling = {"lower": 8, "augmentation": "none"}
    base = trained(home, "lower", {"model": READING["model"], "sample": guided, "bound": {}, "data": shapes[8]})
    upper = trained(home, "upper", {"model": short, "sample": {"steps": 2}, "bound": {}, "data": shapes[16],
                                    "upsampling": upsampling})  # fmt: skip
    model = {"method": "cascade", "base": "lower", "stages": ["upper"]}
    recipe = recipe_of(home, name="cascade", model=model, sample={"sampler": "stages"})
    built(home, recipe)
    (tmp_path / "p.txt").write_text("a circle\n" + "y" * 30)
    asked = ("generate", recipe, "--prompts", tmp_path / "p.txt", "--out", tmp_path / "out")
    found = call(*asked)
    assert found.code == 0, found.lines
    generated = read_images(tmp_path / "out")
    assert generated.prompts == ("a circle", "y" * 30) * 5
    keys, cond = Keys.range(2, 0, 10), as_captions(generated.prompts)
    images = upper.inner.sample_from(of_stage(keys, 0), base.sample(keys, cond), cond)
    assert np.abs(generated.images - (images.numpy() + 1) * 127.5).max() < 0.51
    (tmp_path / "p.txt").write_text("y" * 31)
    assert "has 31 bytes, and the model reads 30" in call(*asked).line
    alone = call("generate", home / "reading.yaml", "--model", "models:/upper@champion")
    assert alone.code == 2
    assert "make it a stage of a cascade" in alone.line


def test_a_cascade_of_captions_and_classes(home: Path) -> None:
    data = {"levels": 256, "classes": ["a"], "captions": True, "shape": [3, 8, 8]}
    parts = [{"model": READING["model"], "sample": {}, "bound": {}, "data": data},
             {"model": {"method": "ddpm"}, "sample": {}, "bound": {}, "data": data}]  # fmt: skip
    model = {"method": "cascade", "base": "lower", "stages": ["classes"]}
    with pytest.raises(ConfigError, match="told different things"):
        assembled({"model": model, "parts": parts})


def evaluated(home: Path, name: str) -> None:
    """What evaluate and promote leave, made by hand."""
    spec = MetricSpec("cnn", "ab" * 32, 0.9, "test", 9, "cd" * 16, 50, 1, "levels", {}, judge="parser")
    values = {"fid": 9.0, "fid_floor": 1.0, "fid_ratio": 9.0, "recognised": 0.5, "caption_both": 0.25}
    figures = {name: Figure(value, value, value, 50) for name, value in values.items()}
    said = {"evaluation": Evaluation(spec, figures).to_json(), "champion": None, "parameters": 7, "images": 64,
            "judge_accuracy": 1.0}  # fmt: skip
    folder = home / "out" / name
    (folder / "evaluation.json").write_text(json.dumps(said))
    (folder / "promotion.json").write_text(json.dumps({"model": f"models:/{name}/1", "alias": "champion"}))
    (folder / "history.csv").write_text("images,loss,validation_loss\n32,1.0,\n64,0.5,0.6\n")
    (folder / "fid.csv").write_text("images,fid\n64,9.0\n")


@pytest.mark.filterwarnings("ignore:Glyph")  # not every machine has a font for every script
@pytest.mark.parametrize("name", ["reading", "classes"])
def test_the_report_shows_what_was_asked_for(call: Call, home: Path, name: str) -> None:
    shutil.rmtree(home / "out" / name, ignore_errors=True)
    recipe = home / f"{name}.yaml"
    texts = ("--prompts", home / "prompts.txt") if name == "reading" else ()
    assert call("generate", recipe, *texts).code == 0
    evaluated(home, name)
    found = call("report", recipe)
    assert found.code == 0, found.lines
    page = (home / "out" / name / "report" / "index.html").read_text()
    assert ("Samples by prompt" in page) == (name == "reading")
    assert ("青い立方体" in page) == (name == "reading")  # beside the way from noise to image
    assert ("Samples by class" in page) == (name == "classes")
    assert ">NLL<" not in page  # which was not measured
    picture = Image.open(home / "out" / name / "report" / "samples.png")
    assert (picture.width > 800) == (name == "reading")  # four columns, and one of classes with an image each
    assert os.path.getsize(home / "out" / name / "report" / "trajectory.png") > 1000
