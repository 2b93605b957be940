"""Forms for JupyterLab over the plain functions; the same objects also run headless."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbtoolkit.widgets.chat import ChatForm as ChatForm
    from nbtoolkit.widgets.deploy_form import DeployForm as DeployForm
    from nbtoolkit.widgets.forms import Form as Form
    from nbtoolkit.widgets.log_view import LogView as LogView
    from nbtoolkit.widgets.operate_forms import ScaleForm as ScaleForm
    from nbtoolkit.widgets.operate_forms import SecretForm as SecretForm
    from nbtoolkit.widgets.operate_forms import TeardownForm as TeardownForm
    from nbtoolkit.widgets.provision_form import ProvisionForm as ProvisionForm
    from nbtoolkit.widgets.sign_in_form import SignIn as SignIn
    from nbtoolkit.widgets.smoke_form import SmokeForm as SmokeForm

_MODULES = {
    "ChatForm": "chat",
    "DeployForm": "deploy_form",
    "Form": "forms",
    "LogView": "log_view",
    "ProvisionForm": "provision_form",
    "ScaleForm": "operate_forms",
    "SecretForm": "operate_forms",
    "SignIn": "sign_in_form",
    "SmokeForm": "smoke_form",
    "TeardownForm": "operate_forms",
}

__all__ = [
    "ChatForm",
    "DeployForm",
    "Form",
    "LogView",
    "ProvisionForm",
    "ScaleForm",
    "SecretForm",
    "SignIn",
    "SmokeForm",
    "TeardownForm",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'nbtoolkit.widgets' has no attribute {name!r}")
    return getattr(import_module(f"nbtoolkit.widgets.{_MODULES[name]}"), name)
