"""Parameters of a deployment: checked as ARM checks them, echoed without their secrets."""

from __future__ import annotations

import copy
import re
import uuid
from collections.abc import Mapping
from typing import Any

from .clock import Clock
from .http import Refused

_TYPES: dict[str, tuple[str, tuple[type, ...]]] = {
    "string": ("String", (str,)),
    "securestring": ("SecureString", (str,)),
    "int": ("Int", (int,)),
    "bool": ("Bool", (bool,)),
    "array": ("Array", (list,)),
    "object": ("Object", (dict,)),
    "secureobject": ("SecureObject", (dict,)),
}
_EXPECTED = {
    "string": "String, Uri",
    "int": "Integer",
    "bool": "Boolean",
    "array": "Array",
    "object": "Object",
}
_FORMATS = {"o": "%Y-%m-%dT%H:%M:%S.%f0Z", "u": "%Y-%m-%d %H:%M:%SZ", "yyyyMMddTHHmmssZ": "%Y%m%dT%H%M%SZ"}


def parameter_values(template: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plain values of a request's parameters, or refuse them as ARM does."""
    declared = {name.lower(): (name, entry) for name, entry in (template.get("parameters") or {}).items()}
    unknown = [name for name in parameters if name.lower() not in declared]
    if unknown:
        names = ", ".join(name for name, _ in declared.values())
        raise invalid(
            f"The template parameters '{', '.join(unknown)}' in the parameters file are not valid; they are "
            "not present in the original template and can therefore not be provided at deployment time. The "
            f"only supported parameters for this template are '{names}'. Please see "
            "https://aka.ms/arm-pass-parameter-values for usage details."
        )
    values: dict[str, Any] = {}
    for asked, holder in parameters.items():
        name, entry = declared[asked.lower()]
        if not isinstance(holder, Mapping) or "value" not in holder:
            raise invalid(f"The value for the template parameter '{name}' is not provided.")
        _check(name, entry, holder["value"])
        values[name] = holder["value"]
    for name, entry in declared.values():
        if name not in values and "defaultValue" not in entry and not entry.get("nullable"):
            raise invalid(
                f"The value for the template parameter '{name}' at line '1' and column '1' is not provided. "
                "Please see https://aka.ms/arm-create-parameter-file for usage details."
            )
    return values


def _check(name: str, entry: Mapping[str, Any], value: Any) -> None:
    kind = str(entry.get("type", "object")).lower()
    if value is None and entry.get("nullable"):
        return
    wanted = _TYPES[kind][1]
    if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
        expected = _EXPECTED[kind.removeprefix("secure")]
        raise invalid(
            f"Template parameter JToken type is not valid. Expected '{expected}'. Actual '{_actual(value)}'. "
            "Please see https://aka.ms/arm-pass-parameter-values for usage details."
        )
    allowed = entry.get("allowedValues")
    if allowed and value not in allowed:
        raise invalid(
            f"The provided value for the template parameter '{name}' is not valid. The value '{value}' is "
            f"not part of the allowed value(s): '{','.join(map(str, allowed))}'."
        )
    size = value if isinstance(value, int) else len(value)
    suffix = "Value" if isinstance(value, int) else "Length"
    least, most = entry.get(f"min{suffix}", size), entry.get(f"max{suffix}", size)
    for bound, beyond in (("min", size < least), ("max", size > most)):
        if beyond:
            raise invalid(
                f"The provided value for the template parameter '{name}' is not valid. The {bound}imum is "
                f"'{entry[bound + suffix]}'."
            )


def _actual(value: Any) -> str:
    names = {bool: "Boolean", int: "Integer", str: "String", list: "Array", dict: "Object", float: "Float"}
    return "Null" if value is None else names[type(value)]


def echo(template: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters as ARM shows them: capitalised types, no value of a secure one."""
    shown: dict[str, Any] = {}
    for name, entry in (template.get("parameters") or {}).items():
        kind = str(entry.get("type", "object")).lower()
        shown[name] = {"type": _TYPES[kind][0]}
        if not kind.startswith("secure") and values.get(name) is not None:
            shown[name]["value"] = values[name]
    return shown


def shown_type(entry: Mapping[str, Any]) -> str:
    """An output's type as ARM shows it."""
    return _TYPES[str(entry.get("type", "object")).lower()][0]


def for_execution(template: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy for execution: plain instead of secure types, and fixed values for times and GUIDs."""
    return _opened(copy.deepcopy(dict(template)))


def _opened(value: Any) -> Any:
    if isinstance(value, list):
        return [_opened(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    if str(value.get("type")).lower() in ("securestring", "secureobject"):
        value["type"] = str(value["type"])[len("secure") :].lower()
    if "defaultValue" in value:
        value["defaultValue"] = _decided(value["defaultValue"])
    return {key: _opened(entry) for key, entry in value.items()}


def _decided(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _decided(entry) for key, entry in value.items()}
    if not isinstance(value, str) or not value.startswith("["):
        return value
    value = re.sub(r"newGuid\(\)", lambda _: f"guid('{uuid.uuid4()}')", value, flags=re.IGNORECASE)
    return re.sub(r"utcNow\((?:'([^']*)')?\)", _now, value, flags=re.IGNORECASE)


def _now(match: re.Match[str]) -> str:
    pattern = _FORMATS.get(match[1] or "yyyyMMddTHHmmssZ", _FORMATS["o"])
    return f"'{Clock.now().strftime(pattern)}'"


def invalid(message: str) -> Refused:
    """ARM's refusal of a template or its parameters."""
    return Refused(
        400,
        "InvalidTemplate",
        f"Deployment template validation failed: '{message}'.",
        additionalInfo=[
            {"type": "TemplateViolation", "info": {"lineNumber": 0, "linePosition": 0, "path": ""}},
        ],
    )
