"""Bring a LoRA adapter from a folder to a proven endpoint.

Importing this package is cheap: nothing heavy is loaded until a name is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nbtoolkit._version import __version__ as __version__

if TYPE_CHECKING:
    from nbtoolkit.azure.target import AzureTarget
    from nbtoolkit.deployment import Deployment, DeploySettings, ProveSettings, deploy, prove, rollback
    from nbtoolkit.endpoint import Endpoint
    from nbtoolkit.golden.golden_file import add_golden
    from nbtoolkit.inference import InferenceSettings
    from nbtoolkit.inference.comparison import compare
    from nbtoolkit.inference.draft_golden import draft_golden
    from nbtoolkit.local.target import LocalTarget
    from nbtoolkit.models.adapter import Adapter
    from nbtoolkit.models.adapter_repair import repair_adapter
    from nbtoolkit.models.base_model import Base
    from nbtoolkit.operate import (
        OperateSettings,
        ScaleSettings,
        SecretSettings,
        TeardownSettings,
        links,
        put_secret,
        repair,
        scale,
        teardown,
    )
    from nbtoolkit.progress import PrintProgress
    from nbtoolkit.provisioning import ProvisionSettings, provision
    from nbtoolkit.serving.release import Release
    from nbtoolkit.smoke.report import SmokeReport
    from nbtoolkit.smoke.settings import SmokeSettings
    from nbtoolkit.smoke.workflow import smoke_test
    from nbtoolkit.workspace import Workspace

__all__ = [
    "Adapter",
    "AzureTarget",
    "Base",
    "DeploySettings",
    "Deployment",
    "Endpoint",
    "InferenceSettings",
    "LocalTarget",
    "OperateSettings",
    "PrintProgress",
    "ProveSettings",
    "ProvisionSettings",
    "Release",
    "ScaleSettings",
    "SecretSettings",
    "SmokeReport",
    "SmokeSettings",
    "TeardownSettings",
    "Workspace",
    "add_golden",
    "compare",
    "deploy",
    "draft_golden",
    "links",
    "prove",
    "provision",
    "put_secret",
    "repair",
    "repair_adapter",
    "rollback",
    "scale",
    "smoke_test",
    "teardown",
]

_EXPORTS = {
    "azure.target": ("AzureTarget",),
    "deployment": ("DeploySettings", "Deployment", "ProveSettings", "deploy", "prove", "rollback"),
    "endpoint": ("Endpoint",),
    "golden.golden_file": ("add_golden",),
    "inference.comparison": ("compare",),
    "inference.draft_golden": ("draft_golden",),
    "inference": ("InferenceSettings",),
    "local.target": ("LocalTarget",),
    "models.adapter": ("Adapter",),
    "models.adapter_repair": ("repair_adapter",),
    "models.base_model": ("Base",),
    "operate": (
        "OperateSettings",
        "ScaleSettings",
        "SecretSettings",
        "TeardownSettings",
        "links",
        "put_secret",
        "repair",
        "scale",
        "teardown",
    ),
    "progress": ("PrintProgress",),
    "provisioning": ("ProvisionSettings", "provision"),
    "serving.release": ("Release",),
    "smoke.report": ("SmokeReport",),
    "smoke.settings": ("SmokeSettings",),
    "smoke.workflow": ("smoke_test",),
    "workspace": ("Workspace",),
}


def __getattr__(name: str) -> Any:
    for module, names in _EXPORTS.items():
        if name in names:
            return getattr(import_module(f"nbtoolkit.{module}"), name)
    raise AttributeError(f"module 'nbtoolkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
