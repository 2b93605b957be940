"""Validate bodies of requests and responses with Bicep's resource types.

``BicepTypes.load().problems("Microsoft.App/containerApps", "2026-07-01", body)`` returns problems, none for
a valid body. Objects are closed: a property without a type is a problem.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "azure" / "types" / "bicep"

REQUIRED, READ_ONLY, WRITE_ONLY, FROM_THE_URL = 1, 2, 4, 8

Type = Mapping[str, Any]

RANGES: Mapping[tuple[str, str], tuple[int, int]] = {
    ("ContainerAppProbe", "failureThreshold"): (1, 10),
    ("ContainerAppProbe", "initialDelaySeconds"): (0, 60),
    ("ContainerAppProbe", "periodSeconds"): (1, 240),
    ("ContainerAppProbe", "successThreshold"): (1, 10),
    ("ContainerAppProbe", "timeoutSeconds"): (1, 240),
    ("ContainerAppProbeHttpGet", "port"): (1, 65535),
    ("Ingress", "targetPort"): (1, 65535),
    ("Scale", "minReplicas"): (0, 1000),
    ("Scale", "maxReplicas"): (1, 1000),
    ("Template", "terminationGracePeriodSeconds"): (0, 600),
    ("TrafficWeight", "weight"): (0, 100),
    ("FileShareProperties", "shareQuota"): (1, 102_400),
}
"""Type and property → lowest and highest value, for limits of Azure that are not in its types."""


class BicepTypes:
    """The types of the files in one folder; each file is read at the first body of its provider."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise FileNotFoundError(f"no Bicep types in {folder}")
        self._folder = folder

    @classmethod
    @cache
    def load(cls) -> BicepTypes:
        """Return the types next to this checkout, read once; raises FileNotFoundError without them."""
        return cls(FOLDER)

    def knows(self, resource_type: str, api_version: str) -> bool:
        """Return whether there is a type for this version."""
        return self._resource(resource_type, api_version) is not None

    def problems(
        self,
        resource_type: str,
        api_version: str,
        body: object,
        *,
        response: bool = False,
        partial: bool = False,
    ) -> list[str]:
        """Return the problems of a resource's body in a request or (``response``) in a response.

        Request: nothing read-only, all required properties that are not in the URL, only allowed values; with
        ``partial``, as for a PATCH, nothing is required. Response: nothing write-only, and all required
        properties. Raises KeyError for an unknown type or version.
        """
        found = self._resource(resource_type, api_version)
        if found is None:
            raise KeyError(f"{resource_type}@{api_version}")
        file, entry = found
        return list(
            _Validator(file, response, partial).validate(file.resolve(entry["body"]), body, "", top=True)
        )

    def action_problems(
        self, resource_type: str, api_version: str, action: str, body: object, *, response: bool = True
    ) -> list[str]:
        """Return the problems of an action's response, or of its request (``response=False``).

        Raises KeyError for an unknown action.
        """
        file = self._file(resource_type, api_version)
        for entry in file.functions if file else ():
            asked = (resource_type.casefold(), api_version, action.casefold())
            if asked == (entry["resourceType"].casefold(), entry["apiVersion"], entry["name"].casefold()):
                wanted = entry.get("output" if response else "input")
                if wanted is None:
                    return [] if body in (None, {}) else [f"{action} takes nothing, but {body!r} was sent"]
                return list(_Validator(file, response).validate(file.resolve(wanted), body, "", top=True))
        raise KeyError(f"{resource_type}@{api_version} {action}")

    def _resource(self, resource_type: str, api_version: str) -> tuple[TypeFile, Type] | None:
        file = self._file(resource_type, api_version)
        entry = file.resources.get(f"{resource_type}@{api_version}".casefold()) if file else None
        return (file, entry) if file and entry else None

    def _file(self, resource_type: str, api_version: str) -> TypeFile | None:
        path = self._folder / f"{resource_type.split('/')[0].lower()}-{api_version}.json"
        return _read(path) if path.is_file() else None


class TypeFile:
    """One provider's types in one version."""

    def __init__(self, path: Path) -> None:
        self._types: list[Type] = json.loads(path.read_text(encoding="utf-8"))

    def resolve(self, reference: Mapping[str, str]) -> Type:
        """Return the type that a reference names."""
        return self._types[int(reference["$ref"].removeprefix("#/"))]

    @cached_property
    def resources(self) -> Mapping[str, Type]:
        """Resource types by lower-case ``type@version``."""
        return {entry["name"].casefold(): entry for entry in self._types if entry["$type"] == "ResourceType"}

    @cached_property
    def functions(self) -> tuple[Type, ...]:
        """Actions on resources."""
        return tuple(entry for entry in self._types if entry["$type"] == "ResourceFunctionType")


@cache
def _read(path: Path) -> TypeFile:
    return TypeFile(path)


class _Validator:
    def __init__(self, file: TypeFile, response: bool, partial: bool = False) -> None:
        self._file = file
        self._response = response
        self._partial = partial

    def validate(self, wanted: Type, value: Any, at: str, *, top: bool = False) -> Iterator[str]:
        """Yield the problems of a value that must have a type."""
        match wanted["$type"]:
            case "ObjectType":
                yield from self._object(wanted, value, at, wanted["properties"], top)
            case "DiscriminatedObjectType":
                yield from self._discriminated(wanted, value, at, top)
            case "ArrayType":
                if not isinstance(value, list):
                    yield f"{at}: wanted a list, found {_shown(value)}"
                    return
                for index, entry in enumerate(value):
                    yield from self.validate(self._file.resolve(wanted["itemType"]), entry, f"{at}[{index}]")
            case "UnionType":
                yield from self._union(wanted, value, at)
            case "StringType":
                yield from _text(wanted, value, at)
            case "StringLiteralType":
                if value != wanted["value"]:
                    yield f"{at}: wanted {wanted['value']!r}, found {_shown(value)}"
            case "IntegerType":  # Bicep has no other numeric type, so half a CPU is valid
                yield from _number(value, at, wanted.get("minValue"), wanted.get("maxValue"))
            case "BooleanType":
                if not isinstance(value, bool):
                    yield f"{at}: wanted true or false, found {_shown(value)}"
            case "AnyType":
                pass
            case other:
                raise ValueError(f"unknown kind of type: {other}")

    def _object(
        self, wanted: Type, value: Any, at: str, properties: Mapping[str, Type], top: bool
    ) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{at}: wanted an object, found {_shown(value)}"
            return
        more = wanted.get("additionalProperties")
        for name, entry in value.items():
            path = f"{at}.{name}" if at else name
            if name in properties:
                yield from self._property(wanted["name"], name, properties[name], entry, path, top)
            elif more:
                yield from self.validate(self._file.resolve(more), entry, path)
            elif not (top and name == "dependsOn"):
                yield f"{path}: {wanted['name']} has no such property"
        for name, entry in properties.items():
            flags = entry["flags"]
            wanted_here = flags & REQUIRED and not flags & FROM_THE_URL and not self._partial
            if wanted_here and value.get(name) is None and (self._response or not flags & READ_ONLY):
                yield f"{at}.{name}".removeprefix(".") + f": {wanted['name']} requires it"

    def _property(self, owner: str, name: str, wanted: Type, value: Any, at: str, top: bool) -> Iterator[str]:
        flags = wanted["flags"]
        if flags & FROM_THE_URL and top:
            if name == "name" and isinstance(value, str):
                yield from self.validate(self._file.resolve(wanted["type"]), value.rpartition("/")[2], at)
            return
        if flags & READ_ONLY and not self._response:
            yield f"{at}: is read-only"
        elif flags & WRITE_ONLY and self._response and value is not None:
            yield f"{at}: is write-only, it never comes back"
        elif value is not None:  # null means "not set", both ways
            found = list(self.validate(self._file.resolve(wanted["type"]), value, at))
            yield from found
            limits = RANGES.get((owner, name))
            if limits and not found:
                yield from _number(value, at, *limits)

    def _discriminated(self, wanted: Type, value: Any, at: str, top: bool) -> Iterator[str]:
        key = wanted["discriminator"]
        chosen = value.get(key) if isinstance(value, dict) else None
        if chosen not in wanted["elements"]:
            yield f"{at}.{key}: wanted one of {', '.join(wanted['elements'])}, found {_shown(chosen)}"
            return
        element = self._file.resolve(wanted["elements"][chosen])
        yield from self._object(
            element, value, at, {**wanted["baseProperties"], **element["properties"]}, top
        )

    def _union(self, wanted: Type, value: Any, at: str) -> Iterator[str]:
        members = [self._file.resolve(entry) for entry in wanted["elements"]]
        names = [entry["value"] for entry in members if entry["$type"] == "StringLiteralType"]
        open_ended = any(entry["$type"] == "StringType" for entry in members)
        if names and isinstance(value, str):
            if value not in names and not (open_ended and self._response):
                yield f"{at}: wanted one of {', '.join(names)}, found {_shown(value)}"
        elif all(list(self.validate(entry, value, at)) for entry in members):
            yield f"{at}: {_shown(value)} fits none of the allowed types"


def _text(wanted: Type, value: Any, at: str) -> Iterator[str]:
    if not isinstance(value, str):
        yield f"{at}: wanted a text, found {_shown(value)}"
    elif not wanted.get("minLength", 0) <= len(value) <= wanted.get("maxLength", len(value)):
        limits = f"{wanted.get('minLength', 0)} to {wanted.get('maxLength', 'any number of')} characters"
        yield f"{at}: wanted {limits}, found {len(value)}"
    elif wanted.get("pattern") and not re.search(wanted["pattern"], value):
        yield f"{at}: {_shown(value)} does not match {wanted['pattern']}"


def _number(value: Any, at: str, lowest: int | None, highest: int | None) -> Iterator[str]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        yield f"{at}: wanted a number, found {_shown(value)}"
    elif (lowest is not None and value < lowest) or (highest is not None and value > highest):
        yield f"{at}: wanted {lowest} to {highest}, found {value}"


def _shown(value: Any) -> str:
    return json.dumps(value, default=str)[:80]
