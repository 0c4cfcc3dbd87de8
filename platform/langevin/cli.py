"""`langevin ...`: every step of the way as a command. Thin: parses, calls a stage, prints what came of it."""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

from langevin import __version__
from langevin.errors import LangevinError

app = typer.Typer(
    name="langevin",
    help="Train, evaluate, register and run diffusion models: one recipe file from raw images to scheduled samples.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

RecipeFile = Annotated[
    Path, typer.Argument(metavar="RECIPE", help="a recipe, such as pipelines/recipes/ddpm-digits.yaml")
]
Json = Annotated[bool, typer.Option("--json", help="print the result as JSON on stdout")]
Workers = Annotated[int | None, typer.Option(min=0, help="worker processes, one CPU each; 0: none but this one")]
Address = Annotated[
    str | None,
    typer.Option(
        envvar="RAY_ADDRESS",
        help="a Ray cluster: its job server (http://HOST:8265) or its own address (HOST:6379, auto); embedded without",
    ),
]


def _version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="show tracebacks")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version and leave")
    ] = False,
) -> None:
    if debug:
        os.environ["LANGEVIN_DEBUG"] = "1"


@app.command()
def recipes(as_json: Json = False) -> None:
    """The recipes of this project."""
    from langevin.config.load import load_recipe

    found = [(path, load_recipe(path)) for path in sorted(Path("pipelines/recipes").glob("*.yaml"))]
    rows = [{"recipe": str(p), "name": r.name, "method": r.model.method, "images": r.train.images} for p, r in found]
    _print(rows, as_json, "\n".join(f"{row['recipe']}  {row['method']}  {row['images']:,} images" for row in rows))


@app.command()
def show(
    what: Annotated[str, typer.Argument(metavar="RECIPE|models:/NAME/VERSION")],
    plan: Annotated[bool, typer.Option("--plan", help="what the recipe costs: memory, hours; needs no data")] = False,
    gpus: Annotated[int, typer.Option(min=1, help="of the plan: how many GPUs")] = 1,
    kind: Annotated[str, typer.Option(help="of the plan: what GPUs, such as H100 or A100-80")] = "H100",
    utilisation: Annotated[float, typer.Option(help="of the plan: the share of the peak that is reached")] = 0.4,
    precision: Annotated[
        str | None,
        typer.Option(help="of the plan: fp32, tf32, bf16 or fp16 (default: train.precision, and fp32 to sample)"),
    ] = None,
    as_json: Json = False,
) -> None:
    """A recipe with all its defaults, or what it would cost, or a registered model with its lineage both ways."""
    from langevin.config.load import load_recipe
    from langevin.stages.show import lines, model, model_lines

    if plan:
        from langevin.stages import plan_lines
        from langevin.stages.plan import Machine
        from langevin.stages.plan import plan as run

        priced = run(Path(what), Machine(gpus, kind, utilisation, precision))
        _print(priced, as_json, plan_lines.lines(priced))
        return
    if what.startswith("models:"):
        found = model(what)
        _print(found, as_json, model_lines(found))
        return
    shown = load_recipe(Path(what)).plain()
    _print(shown, as_json, lines(shown))


@app.command()
def prepare(recipe: RecipeFile, as_json: Json = False) -> None:
    """Images -> versioned WebDataset shards with manifest and index."""
    from langevin.config.load import load_recipe
    from langevin.stages.prepare import prepare as run

    manifest = run(load_recipe(recipe))
    counts = {name: split.samples for name, split in manifest.splits.items()}
    shown = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    _print({"name": manifest.name, "digest": manifest.digest, "samples": counts}, as_json,
           f"prepare: {manifest.name} {manifest.digest}: {shown}")  # fmt: skip


@app.command()
def encode(recipe: RecipeFile, as_json: Json = False) -> None:
    """Images -> latents of the trained codec that the recipe names, once, as shards."""
    from langevin.config.load import load_recipe
    from langevin.stages.encode import encode as run

    manifest = run(load_recipe(recipe))
    counts = {name: split.samples for name, split in manifest.splits.items()}
    said = manifest.latents
    assert said is not None
    shown = f"{list(manifest.shape)}, deviation {said.scale:.4g} before, codec {said.codec_sha256[:12]}"
    _print({"digest": manifest.digest, "shape": manifest.shape, "scale": said.scale, "codec": said.codec_sha256,
            "samples": counts}, as_json, f"encode: {manifest.name} {manifest.digest}: {shown}")  # fmt: skip


@app.command()
def extractor(recipe: RecipeFile, as_json: Json = False) -> None:
    """Trains the data set's own feature extractor, by which FID sees."""
    from langevin.config.load import load_recipe
    from langevin.stages.extractor import make_extractor

    made = make_extractor(load_recipe(recipe))
    _print({"name": made.name, "sha256": made.sha256, "accuracy": made.accuracy}, as_json,
           f"extractor: {made.name} {made.sha256[:12]}")  # fmt: skip


@app.command()
def train(
    recipe: RecipeFile,
    workers: Workers = None,
    address: Address = None,
    prepare: Annotated[
        bool,
        typer.Option(
            "--prepare", help="prepare first what is missing of the data set and, to evaluate beside, of the extractor"
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Trains the recipe's model; goes on where an interrupted training stopped."""
    from langevin.config.load import load_recipe
    from langevin.stages.extractor import ensure_extractor
    from langevin.stages.prepare import ensure
    from langevin.stages.train import train as run

    loaded = load_recipe(recipe)
    if prepare:
        ensure(loaded)
        if loaded.evaluate.beside:
            ensure_extractor(loaded)
    result = run(loaded, recipe, loaded.train.workers if workers is None else workers, address)
    _print(result, as_json, f"train: {result['run']}: {result['images']:,} images -> {result['checkpoint']}")


@app.command()
def ema(
    recipe: RecipeFile,
    std: Annotated[float, typer.Option(help="the average's length as a share of the training, between 0 and 0.29")],
    as_json: Json = False,
) -> None:
    """Averaged weights of another length, from the snapshots of a finished training; what follows uses them."""
    from langevin.config.load import load_recipe
    from langevin.stages.ema import ema as run

    result = run(load_recipe(recipe), recipe, std)
    _print(result, as_json,
           f"ema: {result['run']}: std {std} from {result['snapshots']} snapshots -> {result['checkpoint']}, "
           f"{result['profile_error']:.1%} beside the profile")  # fmt: skip


@app.command()
def evaluate(recipe: RecipeFile, workers: Workers = None, address: Address = None, as_json: Json = False) -> None:
    """FID, KID, IS, precision, recall, recognition and NLL of the trained checkpoint, and of the champion beside it."""
    from langevin.config.load import load_recipe
    from langevin.stages.evaluate import evaluate as run
    from langevin.stages.summary import figures

    loaded = load_recipe(recipe)
    result = run(loaded, recipe, loaded.evaluate.workers if workers is None else workers, address)
    _print(result, as_json, figures(result))


@app.command()
def compare(
    recipes: Annotated[list[Path], typer.Argument(metavar="RECIPE...", help="evaluated ones")], as_json: Json = False
) -> None:
    """Several evaluated recipes side by side: figures, network calls, seconds of training."""
    from langevin.stages.compare import compare as run
    from langevin.stages.compare import markdown

    rows = run(recipes)
    _print(rows, as_json, markdown(rows))


@app.command()
def sweep(
    recipe: RecipeFile,
    field: Annotated[str, typer.Argument(help="a setting of the recipe's sample section, such as guidance or steps")],
    values: Annotated[
        list[str], typer.Argument(help="as a recipe would write them, lists in quotes", metavar="VALUE...")
    ],
    images: Annotated[int | None, typer.Option(min=50, help="drawn at each value, in place of evaluate.images")] = None,
    as_json: Json = False,
) -> None:
    """One sampling setting at several values, on the trained checkpoint and with the same noise: nothing is trained."""
    from langevin.config.load import load_recipe
    from langevin.stages.sweep import markdown
    from langevin.stages.sweep import sweep as run

    result = run(load_recipe(recipe), recipe, field, values, images)
    _print(result, as_json, markdown(result))


@app.command()
def tune(
    search: Annotated[
        Path, typer.Argument(metavar="SEARCH", help="a search, such as pipelines/searches/ddpm-digits.yaml")
    ],
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Searches a recipe's settings: trainings with early stopping, then sampling settings; goes on where it stopped."""
    from langevin.stages.found import lines
    from langevin.stages.tune import tune as run

    result = run(search, address)
    _print(result, as_json, lines(result))


@app.command()
def promote(
    recipe: RecipeFile,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="give @champion back to the version that held it before; again: further")
    ] = False,
    as_json: Json = False,
) -> None:
    """Registers the evaluated checkpoint; it becomes @champion if it is better, else @challenger."""
    from langevin.config.load import load_recipe
    from langevin.stages.promote import promote as run
    from langevin.stages.promote import roll_back

    loaded = load_recipe(recipe)
    result = roll_back(loaded) if rollback else run(loaded, recipe)
    _print(result, as_json, f"promote: {result['model']} is @{result['alias']} ({result['reason']})")


@app.command()
def generate(
    recipe: RecipeFile,
    model: Annotated[str | None, typer.Option(help="models:/NAME@ALIAS or models:/NAME/VERSION")] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="a file of texts, one a line, to ask a model for that reads captions")
    ] = None,
    images: Annotated[int | None, typer.Option(min=1, help="how many")] = None,
    seed: Annotated[int | None, typer.Option(help="sample i depends on the seed and i alone")] = None,
    out: Annotated[Path | None, typer.Option(help="the folder to write; a stopped job goes on there")] = None,
    workers: Workers = None,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Images from a registered model, as shards with labels or prompts, seeds and a manifest that names the exact version."""
    from langevin.config.load import load_recipe
    from langevin.stages.generate import generate as run

    texts = None if prompts is None else str(prompts.absolute())
    given = {"model": model, "prompts": texts, "images": images, "seed": seed, "workers": workers}
    result = run(load_recipe(recipe), recipe, {k: v for k, v in given.items() if v is not None}, out, address)
    _print(result, as_json, f"generate: {result['samples']:,} images of {result['model']} -> {result['folder']}")


@app.command()
def report(
    what: Annotated[Path, typer.Argument(metavar="RECIPE|SEARCH", help="a recipe or a search, done to its end")],
    as_json: Json = False,
) -> None:
    """One self-contained HTML page: a model's samples, curves, metrics and lineage, or a search's trials and Pareto front."""
    from langevin.config.load import load_recipe
    from langevin.config.load_search import is_search
    from langevin.stages.report import report as run
    from langevin.stages.search_report import report_search

    result = report_search(what) if is_search(what) else run(load_recipe(what), what)
    _print(result, as_json, f"report: {result['page']}")


@app.command()
def summary(recipe: RecipeFile) -> None:
    """The closing table: what was trained, its metrics, the registered version, where to look next."""
    from langevin.config.load import load_recipe
    from langevin.stages.summary import summary as run

    typer.echo(run(load_recipe(recipe)))


@app.command()
def export(
    what: Annotated[str, typer.Argument(metavar="RECIPE|models:/NAME/VERSION")],
    out: Annotated[Path, typer.Option(help="the folder to write")],
    layout: Annotated[str, typer.Option("--format", help="diffusers: a folder for DDPMPipeline or DDIMPipeline")],
    name: Annotated[
        str | None, typer.Option("--class", help="its name or number; without: the unconditional model")
    ] = None,
    as_json: Json = False,
) -> None:
    """A trained model as a folder that another library runs; one class of it, as its pipelines know no classes."""
    from langevin.stages.export import export as run

    result = run(what, layout, out, name)
    _print(result, as_json, f"export: {result['checkpoint']} -> {result['folder']}")


@app.command()
def doctor(as_json: Json = False) -> None:
    """Whether this installation works: versions, CPUs, tracking store, data sets, undelivered points."""
    from langevin.stages.doctor import examine, lines

    checks = examine()
    _print(checks, as_json, lines(checks))
    if any(not check["ok"] for check in checks):
        raise typer.Exit(1)


@app.command()
def ui(port: Annotated[int, typer.Option(min=1, max=65535)] = 5000) -> None:
    """The MLflow UI on http://127.0.0.1:PORT, until it is interrupted."""
    from langevin.config.paths import home
    from langevin.tracking.store import server_command

    command = server_command(home(), port)
    typer.echo(f"MLflow: http://127.0.0.1:{port}", err=True)
    os.execvp(command[0], command)


def _print(result: Any, as_json: bool, text: str) -> None:
    typer.echo(json.dumps(result, indent=1) if as_json else text)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line. Exit code 0, 1 (failed) or 2 (the caller's mistake, one line on stderr)."""
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        code = app(arguments, standalone_mode=False)
    except typer.Exit as left:
        code = left.exit_code
    except typer.Abort:
        code = 130
    except Exception as error:
        code = _fail(error)
    sys.exit(code or 0)


def _fail(error: Exception) -> int:
    if os.environ.get("LANGEVIN_DEBUG"):
        traceback.print_exc()
    if isinstance(error, LangevinError):
        print(f"langevin: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    if hasattr(error, "format_message"):  # an option that click cannot use; without a message its help is printed
        if message := error.format_message().rstrip("."):
            print(f"langevin: {message}; `langevin --help` lists commands and options", file=sys.stderr)  # noqa: T201
        return 2
    if not os.environ.get("LANGEVIN_DEBUG"):
        first = " ".join(str(error).split())[:300]
        print(f"langevin: {type(error).__name__}: {first}; --debug shows where", file=sys.stderr)  # noqa: T201
    return 1


if __name__ == "__main__":
    main()
