"""Names derived here equal those that Azure's own engine derives."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from nbtoolkit.azure.arm.resource_names import ResourceNames, unique_string
from tests.support.bicep_compiler import BicepCompiler

ALPHABET = "abcXYZ019-_/.()ß üé漢字𝄞\u0301\u200b\n'\\${}["


def texts(count: int) -> list[list[str]]:
    """Return lists of strings: lengths from 0 to 24 bytes and more, and characters that need escaping."""
    source = random.Random(20261122)
    every_tail = [["a" * length] for length in range(25)]
    wild = [
        ["".join(source.choices(ALPHABET, k=source.randint(0, 60))) for _ in range(source.randint(1, 4))]
        for _ in range(count - len(every_tail))
    ]
    return every_tail + wild


def test_unique_string_equals_azures(bicep: BicepCompiler) -> None:
    given = texts(400)
    calls = [
        "uniqueString({})".format(", ".join(f"parameters('texts')[{n}][{m}]" for m in range(len(entry))))
        for n, entry in enumerate(given)
    ]
    lines = [calls[at : at + 10] for at in range(0, len(calls), 10)]  # a template has at most 64 outputs
    template = {
        "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
        "contentVersion": "1.0.0.0",
        "parameters": {"texts": {"type": "array"}},
        "resources": [],
        "outputs": {
            f"o{n}": {"type": "array", "value": f"[createArray({', '.join(line)})]"}
            for n, line in enumerate(lines)
        },
    }
    outputs = bicep.snapshot(template, {"texts": given})["outputs"]
    answers = [answer for n in range(len(lines)) for answer in outputs[f"o{n}"]]
    wrong = [entry for entry, answer in zip(given, answers, strict=True) if answer != unique_string(*entry)]
    assert wrong == []


@pytest.mark.parametrize("index", range(8))
def test_derived_names_equal_the_ai_toolkits(shared: Path, index: int) -> None:
    entry = json.loads((shared / "azure" / "aitk-default-names.json").read_text(encoding="utf-8"))[index]
    names = ResourceNames.derive(entry["subscription"], entry["resourceGroup"])
    share = f"{names.storage_account}/default/{names.file_share}"
    assert entry["names"] == {
        "Microsoft.Storage/storageAccounts": names.storage_account,
        "Microsoft.Storage/storageAccounts/fileServices": f"{names.storage_account}/default",
        "Microsoft.Storage/storageAccounts/fileServices/shares": share,
        "Microsoft.OperationalInsights/workspaces": names.log_analytics,
        "Microsoft.App/managedEnvironments": names.environment,
        "Microsoft.App/managedEnvironments/storages": f"{names.environment}/{names.environment_storage}",
        "Microsoft.App/containerApps": names.app,
    }
