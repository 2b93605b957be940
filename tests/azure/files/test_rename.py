"""Rename on a share whose response was lost."""

from __future__ import annotations

import pytest

from nbtoolkit.azure.files.share import AzureShare
from nbtoolkit.errors import AlreadyExists, NotInStore
from tests.azure_double import AzureDouble
from tests.azure_double.faults import Reset


def test_a_rename_whose_answer_was_lost_is_known_by_its_outcome(
    azure_double: AzureDouble, store: AzureShare
) -> None:
    store.write("a/old", b"old")
    azure_double.faults.on("PUT", "a/new", Reset("lost"))
    store.rename("a/old", "a/new")
    assert store.read("a/new") == b"old"

    store.write("a/mine", b"mine")
    azure_double.faults.on("PUT", "a/new", Reset("before"))
    with pytest.raises(AlreadyExists, match="a/new already exists"):
        store.rename("a/mine", "a/new")
    assert store.read("a/mine") == b"mine"
    assert store.read("a/new") == b"old"

    azure_double.faults.on("PUT", "a/other", Reset("before"))
    with pytest.raises(NotInStore, match="a/gone"):
        store.rename("a/gone", "a/other")
