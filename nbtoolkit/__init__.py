"""Bring a LoRA adapter from a folder to a proven endpoint.

Importing this package is cheap: nothing heavy is loaded until a name is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nbtoolkit._version import __version__ as __version__

if TYPE_CHECKING:
    from nbtoolkit.azure.target import AzureTarget as AzureTarget
    from nbtoolkit.deployment import Deployment as Deployment
    from nbtoolkit.deployment import DeploySettings as DeploySettings
    from nbtoolkit.deployment import deploy as deploy
    from nbtoolkit.deployment import rollback as rollback
    from nbtoolkit.endpoint import Endpoint as Endpoint
    from nbtoolkit.inference.comparison import compare as compare
    from nbtoolkit.inference.settings import InferenceSettings as InferenceSettings
    from nbtoolkit.local.target import LocalTarget as LocalTarget
    from nbtoolkit.models.adapter import Adapter as Adapter
    from nbtoolkit.models.base_model import Base as Base
    from nbtoolkit.operate import OperateSettings as OperateSettings
    from nbtoolkit.operate import ScaleSettings as ScaleSettings
    from nbtoolkit.operate import SecretSettings as SecretSettings
    from nbtoolkit.operate import TeardownSettings as TeardownSettings
    from nbtoolkit.operate import links as links
    from nbtoolkit.operate import put_secret as put_secret
    from nbtoolkit.operate import repair as repair
    from nbtoolkit.operate import scale as scale
    from nbtoolkit.operate import teardown as teardown
    from nbtoolkit.progress import PrintProgress as PrintProgress
    from nbtoolkit.provisioning import ProvisionSettings as ProvisionSettings
    from nbtoolkit.provisioning import provision as provision
    from nbtoolkit.serving.release import Release as Release
    from nbtoolkit.smoke.report import SmokeReport as SmokeReport
    from nbtoolkit.smoke.settings import SmokeSettings as SmokeSettings
    from nbtoolkit.smoke.workflow import smoke_test as smoke_test
    from nbtoolkit.workspace import Workspace as Workspace

_HOME = {
    "Adapter": "models.adapter",
    "AzureTarget": "azure.target",
    "Base": "models.base_model",
    "Deployment": "deployment",
    "DeploySettings": "deployment",
    "Endpoint": "endpoint",
    "InferenceSettings": "inference.settings",
    "LocalTarget": "local.target",
    "OperateSettings": "operate",
    "PrintProgress": "progress",
    "ProvisionSettings": "provisioning",
    "Release": "serving.release",
    "ScaleSettings": "operate",
    "SecretSettings": "operate",
    "SmokeReport": "smoke.report",
    "SmokeSettings": "smoke.settings",
    "TeardownSettings": "operate",
    "Workspace": "workspace",
    "compare": "inference.comparison",
    "deploy": "deployment",
    "links": "operate",
    "provision": "provisioning",
    "put_secret": "operate",
    "repair": "operate",
    "rollback": "deployment",
    "scale": "operate",
    "smoke_test": "smoke.workflow",
    "teardown": "operate",
}

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
    "ProvisionSettings",
    "Release",
    "ScaleSettings",
    "SecretSettings",
    "SmokeReport",
    "SmokeSettings",
    "TeardownSettings",
    "Workspace",
    "compare",
    "deploy",
    "links",
    "provision",
    "put_secret",
    "repair",
    "rollback",
    "scale",
    "smoke_test",
    "teardown",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'nbtoolkit' has no attribute {name!r}")
    return getattr(import_module(f"nbtoolkit.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
