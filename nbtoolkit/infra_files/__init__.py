"""Read and change the AI Toolkit's JSON files in ``infra/``; unchanged values keep their bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nbtoolkit.errors import BrokenFile, InvalidSettings, StoreError
from nbtoolkit.infra_files import schema
from nbtoolkit.infra_files.json_edit import Key, replace_value, value_spans
from nbtoolkit.utils.atomic_write import write_atomically
from nbtoolkit.utils.json_file import broken, parse_object, read_text
from nbtoolkit.workspace import Workspace


class InfraFile:
    """One of the files: ``get`` and ``set`` values, then ``save``.

    ``exists`` is False if there is no file yet; every value is null then, and ``save`` creates the file.
    """

    def __init__(
        self, workspace: Workspace, paths: tuple[Path, ...], kinds: schema.Kinds, *, nested: bool
    ) -> None:
        self.path = paths[0]
        self.exists = self.path.exists()
        self._paths = paths
        self._workspace = workspace
        self._kinds = kinds
        self._nested = nested
        self._text = read_text(self.path) if self.exists else schema.new_file(kinds, nested=nested)
        self._saved: str | None = self._text if self.exists else None
        self._values = self._validated_values()

    def get(self, key: str) -> Any:
        """Return the value of a key; None for null, a blank text or a missing key.

        Raises :class:`InvalidSettings` if the parameter is a reference to a key vault.
        """
        value = self._values.get(self._spelling(key, self._values))
        if isinstance(value, _Reference):
            raise InvalidSettings(
                f"{self.path}: {key!r} refers to a key vault, so its value is not in the file.",
                next_step=f"write the value itself: {json.dumps({key: {'value': '...'}})}",
            )
        return None if isinstance(value, str) and not value.strip() else value

    def set(self, key: str, value: Any) -> None:
        """Change one value in memory; None means the default.

        Raises :class:`InvalidSettings` if the value has the wrong type for the key.
        """
        key_in_file = self._spelling(key, self._values)
        kind = self._kinds.get(self._spelling(key, self._kinds))
        if kind and not kind.fits(value):
            raise InvalidSettings(
                f"{self.path.name}: {key!r} cannot be {value!r}: wanted {kind}, or None for the default.",
                next_step=f"use {kind}",
            )
        exists = key_in_file in self._values
        old = self._values.get(key_in_file)
        if exists and isinstance(old, _Reference):
            self._text = replace_value(self._text, ("parameters", key_in_file), {"value": value})
        elif not exists or json.dumps(old) != json.dumps(value):  # 1, 1.0 and True differ
            self._text = replace_value(self._text, self._value_key(key_in_file), value)
        self._values = self._validated_values()

    def save(self) -> bool:
        """Write the file atomically if a value was changed; return whether it was written.

        Raises :class:`StoreError` if the file on disk has changed since it was read, or cannot be written.
        """
        if self._text == self._saved:
            return False
        for path in self._paths:
            path.parent.mkdir(parents=True, exist_ok=True)
        with self._workspace.lock(f"save {self.path.name}", target="infra-files"):
            for path in self._paths:
                if (read_text(path) if path.exists() else None) != self._saved:
                    raise StoreError(
                        f"{path} has changed on disk since it was read; nothing was written.",
                        next_step="read it again, set the values again and save",
                        path=path,
                    )
            for path in self._paths:
                write_atomically(path, self._text.encode())
        self._saved, self.exists = self._text, True
        return True

    def values(self) -> Mapping[str, Any]:
        """Return all keys of the file, also unknown ones, with their values; null is None."""
        return {key: None if isinstance(value, _Reference) else value for key, value in self._values.items()}

    def __str__(self) -> str:
        width = max(map(len, self._values), default=0)
        lines = [f"  {key:<{width}} = {json.dumps(value)}" for key, value in self.values().items()]
        return "\n".join([f"{self.path}{'' if self.exists else ' (not written yet)'}", *lines])

    def _value_key(self, key: str) -> Key:
        return ("parameters", key, "value") if self._nested else (key,)

    def _spelling(self, key: str, known: Iterable[str]) -> str:
        """Return the key as ``known`` spells it: Azure ignores the case of parameter names."""
        same = (other for other in known if other.casefold() == key.casefold())
        return next(same, key) if self._nested else key

    def _validated_values(self) -> dict[str, Any]:
        """Return the values; raises BrokenFile for invalid JSON and for values of the wrong type."""
        content = parse_object(self._text, self.path)
        values, problems = self._parameters(content) if self._nested else (content, [])
        for key, value in values.items():
            kind = self._kinds.get(self._spelling(key, self._kinds))
            if kind and not isinstance(value, _Reference) and not kind.fits(value):
                problems.append((self._value_key(key), f"wanted {kind} or null, found {json.dumps(value)}"))
        if not problems:
            return values
        positions = value_spans(self._text)
        found = [
            broken(self.path, self._text, positions[place][0], problem, place[1] if place[1:] else place[0])
            for place, problem in problems
        ]
        if len(found) == 1:
            raise found[0]
        raise BrokenFile(
            "\n".join(error.message for error in found), next_step=f"correct {self.path.name}", path=self.path
        )

    def _parameters(self, content: Mapping[str, Any]) -> tuple[dict[str, Any], list[tuple[Key, str]]]:
        parameters = content.get("parameters", {})
        if not isinstance(parameters, dict):
            return {}, [(("parameters",), "wanted an object of parameters")]
        values: dict[str, Any] = {}
        problems: list[tuple[Key, str]] = []
        for key, entry in parameters.items():
            place = ("parameters", key)
            twin = next((other for other in values if other.casefold() == key.casefold()), None)
            if twin is not None:
                problems.append((place, f"{twin!r} and {key!r} are the same parameter to Azure"))
            elif isinstance(entry, dict) and "value" in entry:
                values[key] = entry["value"]
            elif isinstance(entry, dict) and "reference" in entry:
                values[key] = _Reference()
            else:
                problems.append((place, 'wanted an object such as {"value": null}'))
        return values, problems


class InfraFiles:
    """The files that the AI Toolkit and nbtoolkit share; every property reads its file again."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    @property
    def inference_config(self) -> InfraFile:
        """``infra/inference.config.json``: the names of the provisioned resources, for the other steps."""
        return self._config("inference.config.json", schema.INFERENCE_CONFIG)

    @property
    def finetuning_config(self) -> InfraFile:
        """``infra/finetuning.config.json``: the names of the fine-tuning resources."""
        return self._config("finetuning.config.json", schema.FINETUNING_CONFIG)

    @property
    def inference_parameters(self) -> InfraFile:
        """``infra/provision/inference.parameters.json``, or the same file directly in ``infra/``.

        Raises :class:`InvalidSettings` if there is none, or if there are two that differ.
        """
        file = self.find_inference_parameters()
        if not file.exists:
            other = file.path.parent.parent / file.path.name
            raise InvalidSettings(
                f"There is no parameter file: neither {file.path} nor {other}.",
                next_step="write one with the defaults: InfraFiles(workspace).create_inference_parameters()",
            )
        return file

    def find_inference_parameters(self) -> InfraFile:
        """Return the parameter file; if there is none, ``exists`` is False and every value is null."""
        return self._parameters("inference.parameters.json", schema.INFERENCE_PARAMETERS)

    def create_inference_parameters(self) -> InfraFile:
        """Return the parameter file; if there is none, write one in which every value is null."""
        file = self.find_inference_parameters()
        if not file.exists:
            file.save()
        return file

    @property
    def finetuning_parameters(self) -> InfraFile:
        """``infra/provision/finetuning.parameters.json``, or the same file directly in ``infra/``."""
        return self._parameters("finetuning.parameters.json", schema.FINETUNING_PARAMETERS)

    @property
    def endpoint(self) -> str | None:
        """The endpoint of the config file as a URL with ``https://``; None if there is none yet."""
        value = self.inference_config.get("ACA_APP_ENDPOINT")
        return None if value is None else schema.endpoint_url(value)

    def _config(self, name: str, kinds: schema.Kinds) -> InfraFile:
        return InfraFile(self.workspace, (self.workspace.path(f"infra/{name}"),), kinds, nested=False)

    def _parameters(self, name: str, kinds: schema.Kinds) -> InfraFile:
        """Return the file at its existing paths, two if their texts are equal, else at the default path."""
        both = (self.workspace.path(f"infra/provision/{name}"), self.workspace.path(f"infra/{name}"))
        existing = tuple(path for path in both if path.exists())
        if len(existing) == 2 and read_text(existing[0]) != read_text(existing[1]):
            raise InvalidSettings(
                f"Two parameter files differ: {existing[0]} and {existing[1]}.",
                next_step="keep the correct one and delete the other",
            )
        return InfraFile(self.workspace, existing or both[:1], kinds, nested=True)


class _Reference:
    """The value of a parameter that is a reference to a key vault."""
