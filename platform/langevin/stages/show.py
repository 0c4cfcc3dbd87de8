"""What a registered model is, and where it comes from."""

from __future__ import annotations

from typing import Any

from langevin.config.paths import home
from langevin.tracking.registry import Registry
from langevin.tracking.store import tracking_uri


def model(uri: str) -> dict[str, Any]:
    """A registered version with its aliases and lineage. RegistryError for an address of nothing."""
    found = Registry(tracking_uri(home())).resolve(uri)
    tags = {name.removeprefix("langevin."): value for name, value in sorted(found.tags.items())}
    return {
        "model": found.uri,
        "aliases": sorted(found.aliases),
        "description": found.description,
        "checkpoint": str(found.source),
        "mlflow_run": found.run_id,
        "lineage": tags,
    }


def lines(values: dict[str, Any], indent: str = "") -> str:
    """Nested values as indented text, one a line."""
    text = []
    for name, value in values.items():
        if isinstance(value, dict):
            text.append(f"{indent}{name}:\n{lines(value, indent + '  ')}")
        else:
            text.append(f"{indent}{name}: {value}")
    return "\n".join(text)
