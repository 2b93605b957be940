"""Which names an Azure file share can hold.

The rules of "Naming and referencing shares, directories, files, and metadata" in the REST reference. They
are asked of a local share too, so that what works on this machine works in the cloud.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

FORBIDDEN_CHARACTERS = '"\\/:|<>*?'
DEVICES = frozenset(
    ["CON", "PRN", "AUX", "NUL", "CLOCK$", *(f"{d}{i}" for d in ("COM", "LPT") for i in range(1, 10))]
)
MAX_COMPONENT = 255
MAX_PATH = 2048
MAX_DEPTH = 250

Problem = tuple[str, str]
"""A name, and why it cannot be."""


def problems(names: Iterable[str], prefix: str = "") -> list[Problem]:
    """Return what is wrong with posix file names below ``prefix``, in order of the names; [] if all can be.

    Names are looked at together: two that differ only in case or in Unicode form are one on the share.
    """
    found: list[Problem] = []
    seen: dict[str, str] = {}
    for name in sorted(names):
        reasons = [reason for part in name.split("/") for reason in _component_reasons(part)]
        path = f"{prefix}/{name}" if prefix else name
        if _units(path) > MAX_PATH:
            reasons.append(f"the path has {_units(path)} characters, more than {MAX_PATH}")
        if path.count("/") > MAX_DEPTH:
            reasons.append(f"it lies {path.count('/')} folders deep, more than {MAX_DEPTH}")
        clash = _clash(name, seen)
        if clash:
            reasons.append(f"it is {clash!r} there, where case and Unicode form do not count")
        found.extend((name, reason) for reason in reasons)
    return found


def key(name: str) -> str:
    """Return what two names have in common that are one name on the share."""
    composed = unicodedata.normalize("NFC", name)
    return "".join(u if len(u := c.upper()) == 1 else c for c in composed)


def _component_reasons(part: str) -> list[str]:
    reasons: list[str] = []
    if part in ("", ".", ".."):
        return [f"{part!r} is no name"]
    forbidden = sorted({c for c in part if c in FORBIDDEN_CHARACTERS})
    if forbidden:
        reasons.append(f"{part!r} holds {' '.join(forbidden)}")
    invalid = sorted({c for c in part if _is_invalid(c)})
    if invalid:
        codes = " ".join(f"U+{ord(c):04X}" for c in invalid)
        reasons.append(f"{part!r} holds control or invalid Unicode characters: {codes}")
    if part.endswith((".", " ")):
        reasons.append(f"{part!r} ends with a {'dot' if part.endswith('.') else 'space'}")
    if part.upper() in DEVICES:
        reasons.append(f"{part!r} is a device name")
    if _units(part) > MAX_COMPONENT:
        reasons.append(f"{part[:24]!r}… has {_units(part)} characters, more than {MAX_COMPONENT}")
    return reasons


def _is_invalid(character: str) -> bool:
    if unicodedata.category(character) in ("Cc", "Cs", "Co"):
        return True
    point = ord(character)
    return point & 0xFFFE == 0xFFFE or 0xFDD0 <= point <= 0xFDEF  # the noncharacters


def _units(text: str) -> int:
    """Count as the service does, in UTF-16 units."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _clash(name: str, seen: dict[str, str]) -> str | None:
    """Return the other spelling of this name, or of a folder on its way; remember this one."""
    parts = name.split("/")
    clash = None
    for end in range(1, len(parts) + 1):
        spelling = "/".join(parts[:end])
        other = seen.setdefault(key(spelling), spelling)
        if other != spelling and clash is None:
            clash = other
    return clash
