"""What a registered model is, where it comes from, and what came of it."""

from __future__ import annotations

from typing import Any

from langevin.config.paths import home
from langevin.stages.ancestry import GENERATED, MADE_OF, ancestors, descendants
from langevin.tracking.registry import Registry
from langevin.tracking.store import tracking_uri

FEW = 4  # shards that are named one by one as text; --json names all


def model(uri: str) -> dict[str, Any]:
    """A registered version with its aliases and its lineage both ways. RegistryError for an address of nothing."""
    registry = Registry(tracking_uri(home()))
    found = registry.resolve(uri)
    tags = {name.removeprefix("langevin."): value for name, value in sorted(found.tags.items())
            if not name.startswith((MADE_OF, GENERATED))}  # fmt: skip
    return {
        "model": found.uri,
        "aliases": sorted(found.aliases),
        "description": found.description,
        "promotion": found.tags.get("langevin.promotion"),
        "checkpoint": str(found.source),
        "mlflow_run": found.run_id,
        "lineage": tags,
        **ancestors(registry, found),
        **descendants(registry, found),
    }


def model_lines(shown: dict[str, Any]) -> str:
    """The same as text: from the code and the shards down to the model, then what came of it."""
    recipe, code, run, weights = (shown[name] for name in ("recipe", "code", "run", "weights"))
    aliases = "".join(f" @{alias}" for alias in shown["aliases"])
    said = [
        f"{shown['model']}{aliases}: {shown['description']}",
        *([f"  {shown['promotion']}"] if shown["promotion"] else []),
        "comes from",
        f"  recipe      {recipe['name']}, training hash {_or(recipe['training_hash'])}",
        *([f"              {recipe['file']}, sha256 {recipe['sha256']}"] if recipe["file"] else []),
        f"  code        {_or(code['commit'])}{' and uncommitted changes' if code['changed'] else ''}",
        f"  run         {_or(run['name'])} (MLflow {_or(run['mlflow'], 'not delivered')})",
        *(_start(state) for state in shown["goes_on_from"]),
        *_data("data", shown["data"], shown["data"]["name"]),
        *(_data("latents", shown["latents"], None) if "latents" in shown else []),
        *(_part(part) for part in shown["made_of"]),
        f"  checkpoint  {weights['folder']}, {_or(weights['images'])} images, sha256 {_or(weights['sha256'])}",
        *([f"              {weights['problem']}"] if not weights["there"] else []),
        f"  measured    spec {_or(shown['lineage'].get('spec'))}",
        "what came of it",
        *(line for job in shown["generated"] for line in _job(job)),
        *(f"  part of     {uri}" for uri in shown["part_of"]),
    ]
    if said[-1] == "what came of it":
        said.append("  nothing yet")
    return "\n".join(said)


def lines(values: dict[str, Any], indent: str = "") -> str:
    """Nested values as indented text, one a line."""
    text = []
    for name, value in values.items():
        if isinstance(value, dict):
            text.append(f"{indent}{name}:\n{lines(value, indent + '  ')}")
        else:
            text.append(f"{indent}{name}: {value}")
    return "\n".join(text)


def _data(title: str, data: dict[str, Any], name: str | None) -> list[str]:
    digest = " ".join(part for part in (name, _or(data["digest"])) if part)
    of = f" of {data['of']} by codec {data['codec_sha256'][:12]}" if "of" in data else ""
    head = f"  {title:<11} {digest}{of} in {_or(data['root'])}"
    if not data["there"]:
        return [head, f"              {data['problem']}"]
    splits = data["splits"].items()
    return [head, *(line for split, held in splits for line in _shards(f"{split}, {held['samples']:,} samples", held))]


def _shards(title: str, held: dict[str, Any]) -> list[str]:
    shards = held["shards"]
    more = [f"                and {len(shards) - FEW:,} more (--json names them)"] if len(shards) > FEW else []
    named = [f"                {shard['name']}  sha256 {shard['sha256']}" for shard in shards[:FEW]]
    return [f"              {title}:", *named, *more]


def _part(part: dict[str, Any]) -> str:
    models = ", ".join(part["models"]) or "not registered"
    return f"  made of     {part['recipe']} ({models}), sha256 {_or(part['sha256'])}"


def _start(state: dict[str, Any]) -> str:
    models = f" ({', '.join(state['models'])})" if state["models"] else ""
    return f"  goes on from {state['run']}{models} at {state['images']:,} images, sha256 {state['sha256']}"


def _job(job: dict[str, Any]) -> list[str]:
    head = f"  generated   {job['samples']:,} images of seed {job['seed']} in {job['folder']}, {job['time']}"
    return [head, *_shards(f"digest {job['digest']}", job)] if job["there"] else [f"{head}, no longer there"]


def _or(value: Any, otherwise: str = "unknown") -> Any:
    return otherwise if value is None else value
