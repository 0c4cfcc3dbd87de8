"""From a file to its values, and from what pydantic refuses of them to one line: file, field, value and mend."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from langevin.config.recipe import Recipe
from langevin.errors import ConfigError


def read_yaml(path: Path) -> Any:
    """YAML 1.2, where 2e-3 is a number. ConfigError for what is no YAML."""
    try:
        return YAML(typ="safe").load(path)
    except YAMLError as error:
        raise ConfigError(f"is no YAML ({error})", file=path) from None


def as_json(values: Any, path: Path) -> str:
    """ConfigError for what no field takes: a date, a set, an alias to itself."""
    try:
        return json.dumps(values)
    except (TypeError, ValueError) as error:
        mend = "use numbers, texts and lists"
        raise ConfigError(f"holds what no field takes ({error})", file=path, mend=mend) from None


def refused(error: ValidationError, path: Path) -> ConfigError:
    """What is wrong with a recipe's first wrong field."""
    first = first_of(error)
    location, section = _located(first["loc"])
    if first["type"].startswith("union_tag"):  # the name that chooses a section's fields
        location = (*location, first["ctx"]["discriminator"].strip("'_()"))
        if first["type"] == "union_tag_not_found":
            return ConfigError("field required", file=path, field=".".join(location), mend="add it")
        known = first["ctx"]["expected_tags"].replace("'", "")
        return ConfigError("is not known", file=path, field=".".join(location), value=first["ctx"]["tag"],
                           mend=f"choose from {known}")  # fmt: skip
    field = ".".join(location) or None
    found = first.get("input")
    value = None if isinstance(found, dict) or first["type"] in ("missing", "extra_forbidden") else found
    if first["type"] == "extra_forbidden":
        return unknown_field(path, location, list(section.model_fields) if section else [])
    return wrong_value(first, path, field, value)


def first_of(error: ValidationError) -> dict[str, Any]:
    """The error to tell of: a misspelt section is also a missing one, and its nearest name says more."""
    return dict(min(error.errors(include_url=False), key=lambda found: found["type"] != "extra_forbidden"))


def unknown_field(path: Path, location: Sequence[str], known: list[str]) -> ConfigError:
    """known: the fields that there are at this place."""
    near = nearest(location[-1], known)
    prefix = "".join(f"{part}." for part in location[:-1])
    mend = f"did you mean {prefix}{near}?" if near else f"the fields here are {', '.join(known)}"
    return ConfigError("is not a field", file=path, field=".".join(location), mend=mend)


def wrong_value(first: dict[str, Any], path: Path, field: str | None, value: Any) -> ConfigError:
    """first: pydantic's error of a field that is there, or is missing."""
    message = first["msg"].removeprefix("Value error, ")
    mend = "add it" if first["type"] == "missing" else "correct it"
    return ConfigError(message[:1].lower() + message[1:], file=path, field=field, value=value, mend=mend)


def nearest(name: str, known: list[str]) -> str | None:
    """The longest field that begins ``name`` (lr of lr_rate), else the one that is spelt most alike."""
    begun = [field for field in known if name.startswith(f"{field}_")]
    return max(begun, key=len, default=None) or next(
        iter(difflib.get_close_matches(name, known, n=1, cutoff=0.4)), None
    )


def _located(location: tuple[str | int, ...]) -> tuple[tuple[str, ...], type[BaseModel] | None]:
    """The fields on the way, without the names that pydantic puts in for a union's choices, and the last one's section."""
    section: type[BaseModel] | None = Recipe
    fields: list[str] = []
    annotation: Any = Recipe
    for part in map(str, location):
        choices = _choices(annotation)
        if len(choices) > 1:
            annotation = next(one for one, tags in choices if part in tags)
            continue
        section = choices[0][0] if choices else annotation if _is_section(annotation) else None
        fields.append(part)
        annotation = section.model_fields[part].annotation if section and part in section.model_fields else None
    return tuple(fields), section


def _choices(annotation: Any) -> list[tuple[type[BaseModel], tuple[Any, ...]]]:
    """The sections of a union, each with the tags by which a recipe chooses it; the one of a section that may be left out."""
    found: list[tuple[type[BaseModel], tuple[Any, ...]]] = []
    for one in get_args(annotation):
        bare, *notes = get_args(one) if get_origin(one) is Annotated else (one,)
        own = tuple(note.tag for note in notes if isinstance(note, Tag))
        found += [(bare, own or _tags(bare))] if _is_section(bare) else _choices(bare)
    return found


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _tags(section: type[BaseModel]) -> tuple[Any, ...]:
    """The names by which a recipe chooses this section of several."""
    return tuple(tag for name in ("method", "name", "kind") if name in section.model_fields
                 for tag in get_args(section.model_fields[name].annotation))  # fmt: skip
