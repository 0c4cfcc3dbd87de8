"""The model registry: checkpoints under names, their versions, and the aliases that move between them."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langevin.errors import RegistryError
from langevin.tracking.models import CHECKPOINT_TAG as CHECKPOINT_TAG
from langevin.tracking.models import LoggedModels
from langevin.tracking.store import client as client_of
from langevin.tracking.store import reachable

if TYPE_CHECKING:
    from mlflow import MlflowClient

_LOG = logging.getLogger(__name__)

_SOURCE_TAG, _MODEL_TAG = "langevin.source", "langevin.model_id"
_URI = re.compile(r"models:/(?P<name>[^/:@]+)(?:@(?P<alias>[\w\-]+)|/(?P<version>\d+|latest))")
_MEND_URI = "write models:/NAME@ALIAS, models:/NAME/VERSION or models:/NAME/latest"


@dataclass(frozen=True)
class ModelVersion:
    """A registered checkpoint. source: its folder, a path or URI; model_id: the LoggedModel of its metrics."""

    name: str
    version: int
    source: str
    run_id: str | None
    model_id: str | None
    tags: Mapping[str, str]
    aliases: tuple[str, ...]
    description: str

    @property
    def uri(self) -> str:
        """The address of exactly this version."""
        return f"models:/{self.name}/{self.version}"


class Registry:
    """The registry of an MLflow store. Every method raises TrackingError where MLflow cannot be reached."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def register(
        self, name: str, source: str, run_id: str | None, tags: Mapping[str, str], description: str = ""
    ) -> int:
        """The version that holds a checkpoint: a new one, or the one that it has under this name already.

        source: the checkpoint's folder, an absolute path or a URI; tags: with ``langevin.checkpoint_sha256``, by which
        a checkpoint is known again. With a run_id the version is linked to a LoggedModel of that run.
        """
        _check_name(name)
        if not tags.get(CHECKPOINT_TAG):
            raise RegistryError("is missing from the tags of a checkpoint", field=CHECKPOINT_TAG)
        with self._client() as client:
            _ensure_name(client, name)
            if known := self._holding(client, name, tags[CHECKPOINT_TAG]):
                return known[0]
            model_id = LoggedModels(client).ensure(name, run_id, tags, source) if run_id else None
            # a server takes no path of this machine as a source: the tag holds it, in either case
            is_remote_path = self.uri.startswith("http") and "://" not in source
            if is_remote_path and model_id is None:
                raise RegistryError(
                    "is a path, which a server takes only with a run",
                    field="source",
                    value=source,
                    mend="give the run_id of the run that wrote the checkpoint",
                )
            made = client.create_model_version(
                name,
                f"models:/{model_id}" if is_remote_path else source,
                run_id=run_id,
                tags=dict(tags) | {_SOURCE_TAG: source} | ({_MODEL_TAG: model_id} if model_id else {}),
                description=description,
                model_id=model_id,
            )
            version = self._holding(client, name, tags[CHECKPOINT_TAG])[0]
            if version != int(made.version):
                client.delete_model_version(name, made.version)  # another process was faster with the same checkpoint
            elif model_id:
                LoggedModels(client).link(model_id, name, version)
            return version

    def resolve(self, uri: str) -> ModelVersion:
        """The version behind ``models:/NAME@ALIAS``, ``models:/NAME/3`` or ``models:/NAME/latest``.

        Raises RegistryError, with the nearest thing that exists, for an address of nothing.
        """
        found = _URI.fullmatch(uri)
        if not found:
            raise RegistryError("is not the address of a model", field="model", value=uri, mend=_MEND_URI)
        name, alias, version = found["name"], found["alias"], found["version"]
        if alias:
            held = self.alias(name, alias)
            if held is None:
                raise RegistryError(
                    f"names no version: {name} has no alias {alias!r}",
                    field="model",
                    value=uri,
                    mend=self._what_there_is(name),
                )
            return self._get(uri, name, held)
        versions = self.versions(name)
        if version != "latest":
            return self._get(uri, name, int(version))
        if not versions:
            raise RegistryError("has no versions", field="model", value=uri, mend="run langevin promote")
        return versions[-1]

    def versions(self, name: str) -> list[ModelVersion]:
        """All versions of a registered model, the oldest first. Raises RegistryError for an unknown name."""
        with self._client() as client:
            held = _aliases(self._registered(client, name))
            pages = _pages(client.search_model_versions, f"name='{name}'")
            return sorted((_version(found, held) for found in pages), key=lambda version: version.version)

    def names(self) -> list[str]:
        """The registered models, sorted."""
        with self._client() as client:
            return sorted(model.name for model in _pages(client.search_registered_models, None))

    def alias(self, name: str, alias: str) -> int | None:
        """The version that an alias points to; None where there is no such alias. RegistryError for an unknown name."""
        with self._client() as client:
            version = self._registered(client, name).aliases.get(alias)
            return None if version is None else int(version)

    def holder(self, name: str, alias: str) -> ModelVersion | None:
        """The version that an alias points to; None where there is no such alias or no such model."""
        try:
            return self.resolve(f"models:/{name}@{alias}")
        except RegistryError:
            return None

    def tagged(self, tag: str, value: str) -> list[ModelVersion]:
        """The versions of any model that carry a tag with this value, by name and number."""
        with self._client() as client:
            pages = _pages(client.search_model_versions, f"tags.`{tag}` = '{value}'")
            found = sorted((version.name, int(version.version)) for version in pages)
        return [self.resolve(f"models:/{name}/{version}") for name, version in found]

    def model_tags(self, name: str) -> dict[str, str]:
        """The tags of a registered model, none for one that is not there."""
        with self._client() as client:
            try:
                return dict(self._registered(client, name).tags)
            except RegistryError:
                return {}

    def tag_model(self, name: str, tags: Mapping[str, str]) -> None:
        """Adds tags to a registered model; the last value of a key stays."""
        with self._client() as client:
            for key, value in tags.items():
                client.set_registered_model_tag(name, key, value)

    def set_alias(self, name: str, alias: str, version: int) -> None:
        """Points an alias ("champion") to a version, away from where it pointed before."""
        self._get(f"models:/{name}/{version}", name, version)
        with self._client() as client:
            client.set_registered_model_alias(name, alias, str(version))

    def tag_version(self, name: str, version: int, tags: Mapping[str, str]) -> None:
        """Adds tags to a version; the last value of a key stays."""
        self._get(f"models:/{name}/{version}", name, version)
        with self._client() as client:
            for key, value in tags.items():
                client.set_model_version_tag(name, str(version), key, value)

    @contextmanager
    def _client(self) -> Iterator[MlflowClient]:
        with reachable(self.uri):
            yield client_of(self.uri)

    def _get(self, uri: str, name: str, version: int) -> ModelVersion:
        for found in self.versions(name):
            if found.version == version:
                return found
        raise RegistryError("names no version of this model", field="model", value=uri, mend=self._what_there_is(name))

    def _holding(self, client: MlflowClient, name: str, sha256: str) -> list[int]:
        query = f"name='{name}' AND tags.`{CHECKPOINT_TAG}` = '{sha256}'"
        return sorted(int(found.version) for found in _pages(client.search_model_versions, query))

    def _registered(self, client: MlflowClient, name: str) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            return client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
        names = self.names()
        near = difflib.get_close_matches(name, names, 1)
        mend = f"did you mean {near[0]}?" if near else f"there is {', '.join(names)}" if names else None
        mend = mend or "nothing is registered yet: run langevin promote"
        raise RegistryError("is not a registered model", field="model", value=name, mend=mend)

    def _what_there_is(self, name: str) -> str:
        known = [
            f"{version.version} ({', '.join('@' + alias for alias in version.aliases)})"
            if version.aliases
            else str(version.version)
            for version in self.versions(name)
        ]
        return f"its versions are {', '.join(known)}" if known else "it has no versions: run langevin promote"


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[\w][\w.\- ]*", name):
        raise RegistryError(
            "cannot name a model",
            field="model",
            value=name,
            mend="use letters, digits, dots, dashes and underscores",
        )


def _ensure_name(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _aliases(registered: Any) -> dict[int, tuple[str, ...]]:
    held: dict[int, tuple[str, ...]] = {}
    for alias, version in sorted(registered.aliases.items()):
        held[int(version)] = (*held.get(int(version), ()), alias)
    return held


def _version(found: Any, aliases: Mapping[int, tuple[str, ...]]) -> ModelVersion:
    version, tags = int(found.version), dict(found.tags)
    source, model_id = tags.get(_SOURCE_TAG, found.source), tags.get(_MODEL_TAG)
    held = aliases.get(version, ())
    return ModelVersion(
        found.name, version, source, found.run_id or None, model_id, tags, held, found.description or ""
    )


def _pages(search: Any, query: str | None) -> Iterator[Any]:
    token = None
    while True:
        page = search(filter_string=query, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
