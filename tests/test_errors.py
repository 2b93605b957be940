"""Errors reach another process whole."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbtoolkit import errors


def _classes(parent: type[errors.NbtoolkitError]) -> Iterator[type[errors.NbtoolkitError]]:
    yield parent
    for child in parent.__subclasses__():
        yield from _classes(child)


REQUIRED = {
    "path": Path("adapters/tone"),
    "start": Path(),
    "package": "torch",
    "plan": {"profile": "T4"},
    "blockers": ("no quota",),
    "fields": ("region",),
    "by": "ana",
    "release": "r1",
    "n": 3,
    "state": "refuted",
}


@pytest.mark.parametrize("kind", sorted(set(_classes(errors.NbtoolkitError)), key=str))
def test_every_error_can_be_pickled(kind: type[errors.NbtoolkitError]) -> None:
    wanted = {name: value for name, value in REQUIRED.items() if name in kind.__dataclass_fields__}
    error = kind("The server ended.", next_step="Read its log.", **wanted)
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is kind
    assert str(found) == str(error)
    assert found.args == error.args
    assert vars(found) == vars(error)
