"""Rules for names on an Azure file share.

The rules of "Naming and referencing shares, directories, files, and metadata" in the REST reference. They
apply to a local share too, so that files which work on this machine work in the cloud.
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
"""A name, and why it is not valid."""


def find_problems(names: Iterable[str], prefix: str = "") -> list[Problem]:
    """Return the problems of posix file names below ``prefix``, sorted by name; [] if all are valid.

    Names are checked together: two that differ only in case or in Unicode form are one on the share.
    """
    found: list[Problem] = []
    seen: dict[str, str] = {}
    for name in sorted(names):
        reasons = [reason for part in name.split("/") for reason in _component_reasons(part)]
        path = f"{prefix}/{name}" if prefix else name
        if _utf16_length(path) > MAX_PATH:
            reasons.append(f"the path has {_utf16_length(path)} characters, more than {MAX_PATH}")
        if path.count("/") > MAX_DEPTH:
            reasons.append(f"it lies {path.count('/')} folders deep, more than {MAX_DEPTH}")
        ends = [*(at for at, character in enumerate(name) if character == "/"), len(name)]
        spellings = [name[:end] for end in ends]  # of the name and of its folders
        others = [seen.setdefault(collision_key(spelling), spelling) for spelling in spellings]
        clash = next((other for other, own in zip(others, spellings, strict=True) if other != own), None)
        if clash:
            reasons.append(f"it is {clash!r} there, since case and Unicode form are ignored")
        found.extend((name, reason) for reason in reasons)
    return found


def collision_key(name: str) -> str:
    """Return a key that is equal for names which are one name on the share."""
    composed = unicodedata.normalize("NFC", name)
    return "".join(u if len(u := c.upper()) == 1 else c for c in composed)


def _component_reasons(part: str) -> list[str]:
    reasons: list[str] = []
    if part in ("", ".", ".."):
        return [f"{part!r} is not a name"]
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
    if _utf16_length(part) > MAX_COMPONENT:
        reasons.append(f"{part[:24]!r}… has {_utf16_length(part)} characters, more than {MAX_COMPONENT}")
    return reasons


def _is_invalid(character: str) -> bool:
    if unicodedata.category(character) in ("Cc", "Cs", "Co"):
        return True
    point = ord(character)
    return point & 0xFFFE == 0xFFFE or 0xFDD0 <= point <= 0xFDEF  # the noncharacters


def _utf16_length(text: str) -> int:
    """Return the length in UTF-16 units, as the service counts."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
