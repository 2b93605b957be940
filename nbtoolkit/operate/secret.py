"""Add or replace a secret of the app."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any

from pydantic import Field, SecretStr, field_validator

from nbtoolkit.azure.container_apps.app import ContainerApp
from nbtoolkit.azure.container_apps.models import AppState, secret_name
from nbtoolkit.azure.startup.activation import change_template, choose_revision_method
from nbtoolkit.azure.target import AzureTarget
from nbtoolkit.errors import AzureFailed, InvalidSettings
from nbtoolkit.progress import SILENT, Progress
from nbtoolkit.settings import Settings
from nbtoolkit.utils.threads import run_cancellable

_NOT_ACTIVE = "ContainerAppRevisionNotActive"
_VARIABLE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,200}")


class SecretSettings(Settings):
    """A secret of the app, which its server reads as an environment variable.

    The value is typed into the form, or read from this kernel's environment variable of that name. It is not
    a notebook parameter, since papermill writes those into its output.
    """

    name: str = Field(default="HF_TOKEN", description="the environment variable, such as HF_TOKEN")
    value: SecretStr | None = Field(
        default=None, description="blank: this kernel's environment variable of that name"
    )
    allow_downtime: bool = Field(
        default=False, description="stop the app first if there is no GPU for old and new at once"
    )

    @field_validator("name")
    @classmethod
    def _validate_name(cls, value: str) -> str:
        name = value.strip().upper().replace("-", "_")
        if not _VARIABLE.fullmatch(name):
            raise ValueError("a secret's name has letters, digits and _, and starts with a letter")
        return name

    @property
    def secret_name(self) -> str:
        """The name in Container Apps."""
        return secret_name(self.name)


@dataclass(frozen=True)
class SecretPut:
    """The result of :func:`put_secret`; does not hold the value."""

    name: str
    replaced: bool
    effect: str
    """When servers read the new value."""

    def __str__(self) -> str:
        return f"{self.name} was {'replaced' if self.replaced else 'added'}; {self.effect}"

    __repr__ = __str__


def put_secret(
    settings: SecretSettings, *, target: AzureTarget | None = None, progress: Progress | None = None
) -> SecretPut:
    """Add or replace a secret, keep all others, and restart running servers so that they read it.

    A sleeping app is not woken. A variable that the server does not have yet needs a new revision: raises
    :class:`QuotaShort` before any change if there is no GPU for it next to the old one. Raises
    :class:`InvalidSettings` if there is no value, :class:`AzureFailed`, :class:`Busy`.
    """
    progress = progress or SILENT()
    typed = settings.value.get_secret_value() if settings.value else os.environ.get(settings.name, "")
    if not (value := typed.strip()):
        raise InvalidSettings(
            f"The secret {settings.name} has no value: none was typed, and this kernel has no environment "
            f"variable {settings.name}.",
            next_step="type it into the form, or set the variable before the notebook starts",
        )
    target = target or AzureTarget()
    with target.workspace.lock("put a secret", target=target.name):
        app = target.app
        progress.phase(f"Reading the app {app.provisioned.app}")
        state = run_cancellable(progress, app.get)
        replaced = settings.secret_name in state.secret_names
        if settings.name in state.environment_variables:
            app.set_secrets({settings.secret_name: value}, progress)
            return SecretPut(settings.name, replaced, _restart(app, progress))
        method = choose_revision_method(app, state, allow_downtime=settings.allow_downtime, progress=progress)
        app.set_secrets({settings.secret_name: value}, progress)
        change_template(app, method, settings.secret_name, _with_variable(state, settings), progress)
        return SecretPut(settings.name, replaced, "a new revision starts with it")


def _restart(app: ContainerApp, progress: Progress) -> str:
    """Restart the revisions that have replicas; return the effect as a sentence.

    During a rollout there are two, and each may have read the old value.
    """
    restarted: list[str] = []
    for name, replicas in run_cancellable(progress, app.replicas_by_revision).items():
        if not replicas:
            continue
        progress.phase(f"Restarting {name}: a server reads secrets only when it starts")
        try:
            app.restart(name, progress)
        except AzureFailed as error:
            if error.code != _NOT_ACTIVE:  # a newer revision has replaced it
                raise
        else:
            restarted.append(name)
    if not restarted:
        return "nothing runs, so the next start reads it"
    verb = "restarts and is" if len(restarted) == 1 else "restart and are"
    return f"{' and '.join(restarted)} {verb} ready in some minutes"


def _with_variable(state: AppState, settings: SecretSettings) -> dict[str, Any]:
    first, *others = [dict(container) for container in state.containers]
    for container in (first, *others):
        container["resources"] = dict(container.get("resources") or {})
        container["resources"].pop("ephemeralStorage", None)  # the size of the disk is read-only
    variables = [*(first.get("env") or []), {"name": settings.name, "secretRef": settings.secret_name}]
    return {"containers": [{**first, "env": variables}, *others]}
