"""The AI Toolkit's JSON files in ``infra/``: read as they are, and changed without touching anything else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbtoolkit.errors import BrokenFile, InvalidSettings, StoreError
from nbtoolkit.infra_files import schema
from nbtoolkit.infra_files.json_edit import Key, spans, with_value
from nbtoolkit.utils.atomic_write import write_atomically
from nbtoolkit.utils.json_file import broken, parse_object, read_text
from nbtoolkit.workspace import Workspace


class InfraFile:
    """One of the files as a small document: ``get``, ``set``, ``save``.

    ``exists`` is False for a file that is not there yet; nothing is chosen in it, and saving creates it.
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
        new = schema.new_parameters if nested else schema.new_config
        self._text = read_text(self.path) if self.exists else new(kinds)
        self._saved: str | None = self._text if self.exists else None
        self._values = self._checked()

    def get(self, key: str) -> Any:
        """Return what stands at a key; None where nothing was chosen: null, blank text or no such key.

        Raises :class:`InvalidSettings` for a parameter that refers to a key vault.
        """
        value = self._values.get(self._spelled(key))
        if isinstance(value, _Reference):
            raise InvalidSettings(
                f"{self.path}: {key!r} refers to a key vault, so its value is not in the file.",
                next_step=f"write the value itself: {json.dumps({key: {'value': '...'}})}",
            )
        return None if isinstance(value, str) and not value.strip() else value

    def set(self, key: str, value: Any) -> None:
        """Change one value in memory; None means "not chosen, use the default".

        Raises :class:`InvalidSettings` where the value's type does not fit the key.
        """
        spelled = self._spelled(key)
        wanted = self._kinds.get(self._known(key))
        if wanted and not schema.fits(wanted, value):
            raise InvalidSettings(
                f"{self.path.name}: {key!r} cannot be {value!r}: wanted {wanted}, or None for the default.",
                next_step=f"give {wanted}",
            )
        there = spelled in self._values
        old = self._values.get(spelled)
        if there and isinstance(old, _Reference):
            self._text = with_value(self._text, ("parameters", spelled), {"value": value})
        elif not there or json.dumps(old) != json.dumps(value):  # 1, 1.0 and True differ
            self._text = with_value(self._text, self._place(spelled), value)
        self._values = self._checked()

    def save(self) -> bool:
        """Write the file if anything was changed, in one step; return whether it was.

        Raises :class:`StoreError` where the file was changed on disk since it was read, or cannot be written.
        """
        if self._text == self._saved:
            return False
        for path in self._paths:
            path.parent.mkdir(parents=True, exist_ok=True)
        with self._workspace.lock(f"save {self.path.name}", target="infra-files"):
            for path in self._paths:
                if (read_text(path) if path.exists() else None) != self._saved:
                    raise StoreError(
                        f"{path} was changed by someone else since it was read; nothing was written.",
                        next_step="read it again, set the values again and save",
                        path=path,
                    )
            for path in self._paths:
                write_atomically(path, self._text.encode())
        self._saved, self.exists = self._text, True
        return True

    def values(self) -> Mapping[str, Any]:
        """Return all keys of the file, unknown ones too, with their values; null is None."""
        return {key: None if isinstance(value, _Reference) else value for key, value in self._values.items()}

    def __str__(self) -> str:
        width = max(map(len, self._values), default=0)
        lines = [f"  {key:<{width}} = {json.dumps(value)}" for key, value in self.values().items()]
        return "\n".join([f"{self.path}{'' if self.exists else ' (not written yet)'}", *lines])

    def _place(self, key: str) -> Key:
        return ("parameters", key, "value") if self._nested else (key,)

    def _spelled(self, key: str) -> str:
        """Return the key as the file spells it: Azure takes parameter names in any case."""
        if key in self._values or not self._nested:
            return key
        return next((there for there in self._values if there.casefold() == key.casefold()), key)

    def _checked(self) -> dict[str, Any]:
        """Read the values; raises BrokenFile for broken JSON and for values of a wrong type."""
        content = parse_object(self._text, self.path)
        values, problems = self._parameters(content) if self._nested else (content, [])
        for key, value in values.items():
            wanted = self._kinds.get(self._known(key))
            if wanted and not isinstance(value, _Reference) and not schema.fits(wanted, value):
                problems.append((self._place(key), f"wanted {wanted} or null, found {json.dumps(value)}"))
        if not problems:
            return values
        places = spans(self._text)
        found = [
            broken(self.path, self._text, places[place][0], problem, place[1] if place[1:] else place[0])
            for place, problem in problems
        ]
        if len(found) == 1:
            raise found[0]
        raise BrokenFile(
            "\n".join(error.message for error in found), next_step=f"correct {self.path.name}", path=self.path
        )

    def _known(self, key: str) -> str:
        """Return the key as the AI Toolkit spells it."""
        if not self._nested:
            return key
        return next((known for known in self._kinds if known.casefold() == key.casefold()), key)

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
    """The files that the AI Toolkit and nbtoolkit share; every property reads its file anew."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    @property
    def inference_config(self) -> InfraFile:
        """``infra/inference.config.json``: what was provisioned, the input of the other steps."""
        return self._config("inference.config.json", schema.INFERENCE_CONFIG)

    @property
    def finetuning_config(self) -> InfraFile:
        """``infra/finetuning.config.json``: what the fine-tuning step provisioned."""
        return self._config("finetuning.config.json", schema.FINETUNING_CONFIG)

    @property
    def inference_parameters(self) -> InfraFile:
        """``infra/provision/inference.parameters.json``, or the same file directly in ``infra/``.

        Raises :class:`InvalidSettings` where there is none, or two that differ.
        """
        paths = self._spellings("inference.parameters.json")
        if not paths[0].exists():
            other = paths[0].parent.parent / paths[0].name
            raise InvalidSettings(
                f"There is no parameter file: neither {paths[0]} nor {other}.",
                next_step="write one with the defaults: InfraFiles(workspace).create_inference_parameters()",
            )
        return InfraFile(self.workspace, paths, schema.INFERENCE_PARAMETERS, nested=True)

    def create_inference_parameters(self) -> InfraFile:
        """Write the parameter file with nothing chosen, where there is none, and return it."""
        paths = self._spellings("inference.parameters.json")
        file = InfraFile(self.workspace, paths, schema.INFERENCE_PARAMETERS, nested=True)
        if not file.exists:
            file.save()
        return file

    @property
    def finetuning_parameters(self) -> InfraFile:
        """``infra/provision/finetuning.parameters.json``, or the same file directly in ``infra/``."""
        paths = self._spellings("finetuning.parameters.json")
        return InfraFile(self.workspace, paths, schema.FINETUNING_PARAMETERS, nested=True)

    @property
    def endpoint(self) -> str | None:
        """The endpoint of the config file as a URL, with ``https://``; None where there is none yet."""
        value = self.inference_config.get("ACA_APP_ENDPOINT")
        return None if value is None else schema.endpoint_url(value)

    def _config(self, name: str, kinds: schema.Kinds) -> InfraFile:
        return InfraFile(self.workspace, (self.workspace.path(f"infra/{name}"),), kinds, nested=False)

    def _spellings(self, name: str) -> tuple[Path, ...]:
        """Return the file that is there: both where they say the same, the usual one where none is."""
        both = (self.workspace.path(f"infra/provision/{name}"), self.workspace.path(f"infra/{name}"))
        there = tuple(path for path in both if path.exists())
        if len(there) == 2 and read_text(there[0]) != read_text(there[1]):
            raise InvalidSettings(
                f"Two parameter files differ: {there[0]} and {there[1]}.",
                next_step="keep the one that is right and delete the other",
            )
        return there or both[:1]


class _Reference:
    """Stands for a value that lies in a key vault, or nowhere."""
