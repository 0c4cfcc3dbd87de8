"""What a model that reads is asked for in the batch job: a file's texts, or the captions of images that it never saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from langevin.config.assembly import readers
from langevin.config.paths import within_home
from langevin.config.recipe import Recipe
from langevin.data.manifest import MANIFEST, Manifest
from langevin.data.reader import first_captions
from langevin.errors import ConfigError

FIELD = "generate.prompts"


def prompts_for(recipe: Recipe, path: Path, said: dict[str, Any]) -> tuple[str, ...] | None:
    """The recipe's prompts for the described model, no more than it draws images; None for a model that is told classes.

    Without a file: captions of the data set's test images, in stored order. ConfigError where there are none, or where
    the model is told classes and there are.
    """
    section = recipe.generate
    encoders = readers(said)
    if not encoders:
        if section.prompts is not None:
            raise ConfigError("is for models that read, and this one is told classes", file=path, field=FIELD,
                              value=section.prompts, mend="remove it, or name a model of captions")  # fmt: skip
        return None
    if section.prompts is not None:
        return read_prompts(within_home(section.prompts), bytes_read(encoders))[: section.images]
    root = within_home(recipe.data.root)
    if not (root / MANIFEST).exists() or not Manifest.load(root).captions:
        raise ConfigError(f"the model is asked by texts, and the data at {root} have none to take", file=path, field=FIELD,
                          mend="give a file of prompts, one a line, here or by --prompts")  # fmt: skip
    return first_captions(root, "test", section.images)


def bytes_read(encoders: list[dict[str, Any]]) -> int | None:
    """How many bytes of a prompt all of them read; None where all are frozen ones, which count in tokens of their own."""
    return min((one["length"] for one in encoders if one.get("kind", "bytes") == "bytes"), default=None)


def read_prompts(path: Path, longest: int | None = None) -> tuple[str, ...]:
    """The texts of a file in UTF-8, one a line, in order; lines with nothing but blanks are left out.

    ConfigError: no such file, not UTF-8, no text in it, or one that is longer than ``longest`` bytes, by its line.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise ConfigError(f"cannot be read ({error.strerror})", file=path, field="prompts",
                          mend="give a file with one prompt a line") from error  # fmt: skip
    lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")  # which some editors begin UTF-8 with
    prompts = (_prompt(line, number, path, longest) for number, line in enumerate(lines, 1))
    if found := tuple(prompt for prompt in prompts if prompt):
        return found
    raise ConfigError("holds no prompt", file=path, field="prompts", mend="write one a line")


def _prompt(line: bytes, number: int, path: Path, longest: int | None) -> str:
    try:
        prompt = line.decode().strip()
    except UnicodeDecodeError as error:
        _refuse(path, number, line[:40], f"is no UTF-8 ({error.reason} at byte {error.start + 1})", "save it as UTF-8")
    if "\0" in prompt:
        _refuse(path, number, prompt, "holds a zero byte", "remove it")
    size = len(prompt.encode())
    if longest is not None and size > longest:
        _refuse(path, number, prompt, f"has {size} bytes, and the model reads {longest}", "shorten it")
    return prompt


def _refuse(path: Path, number: int, value: Any, problem: str, mend: str) -> NoReturn:
    raise ConfigError(problem, file=path, field=f"line {number}", value=value, mend=mend)
