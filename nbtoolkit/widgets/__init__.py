"""Forms for JupyterLab over the plain functions; the same objects also run headless."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbtoolkit.widgets.azure_forms import ProvisionForm, ScaleForm, SecretForm, TeardownForm
    from nbtoolkit.widgets.chat import ChatForm
    from nbtoolkit.widgets.forms import Form
    from nbtoolkit.widgets.log_view import LogView
    from nbtoolkit.widgets.model_forms import DeployForm, SmokeForm
    from nbtoolkit.widgets.prove_form import ProveForm
    from nbtoolkit.widgets.sign_in_form import SignIn

_MODULES = {
    "ChatForm": "chat",
    "DeployForm": "model_forms",
    "Form": "forms",
    "LogView": "log_view",
    "ProveForm": "prove_form",
    "ProvisionForm": "azure_forms",
    "ScaleForm": "azure_forms",
    "SecretForm": "azure_forms",
    "SignIn": "sign_in_form",
    "SmokeForm": "model_forms",
    "TeardownForm": "azure_forms",
}

__all__ = [
    "ChatForm",
    "DeployForm",
    "Form",
    "LogView",
    "ProveForm",
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
