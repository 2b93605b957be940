"""Ask Azure all that is needed to say what a provision would do; nothing is written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nbtoolkit.azure.arm import existing_resources as azure_existing
from nbtoolkit.azure.arm.deployment import ArmDeployment, load_template
from nbtoolkit.azure.arm.deployment_operations import DeploymentState
from nbtoolkit.azure.arm.existing_resources import ExistingResources
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.container_apps.models import AppState
from nbtoolkit.errors import AzureFailed
from nbtoolkit.progress import SILENT, Progress
from nbtoolkit.provisioning import template_parameters as sent
from nbtoolkit.provisioning.checks.permissions import forbidden
from nbtoolkit.provisioning.conflicts import conflicts
from nbtoolkit.provisioning.costs import costs_of
from nbtoolkit.provisioning.discovery import look, refuse
from nbtoolkit.provisioning.existing_app import drift, secret_drift
from nbtoolkit.provisioning.plan import ProvisionPlan
from nbtoolkit.provisioning.preflight import preflight
from nbtoolkit.provisioning.resource_choice import machine_of
from nbtoolkit.provisioning.rollout_capacity import RolloutCapacity, beside_of
from nbtoolkit.provisioning.settings import ProvisionSettings
from nbtoolkit.provisioning.validation import blockers
from nbtoolkit.utils.threads import run_cancellable
from nbtoolkit.workspace import Workspace

TEMPLATE_TAG, SETTINGS_TAG, IMAGE_TAG = "nbtoolkit-template", "nbtoolkit-settings", "nbtoolkit-image"
_HIDDEN = "hidden"  # Azure is not shown a secret to predict what it would not show either


def plan(
    settings: ProvisionSettings,
    *,
    workspace: Workspace | None = None,
    cloud: Cloud | None = None,
    progress: Progress | None = None,
) -> ProvisionPlan:
    """Return what :func:`provision` would create, change and keep, what it costs and what blocks it.

    Takes a minute at most and writes nothing, in Azure or here. Raises :class:`Blocked` where the settings
    alone cannot work, :class:`NotSignedIn`, :class:`AzureFailed`.
    """
    workspace, cloud, progress = workspace or Workspace.find(), cloud or Cloud.shared(), progress or SILENT()
    settings = settings.completed(workspace)
    refuse(blockers(settings))
    return build_plan(*look(settings, cloud, progress, workspace), cloud, progress, workspace)


def build_plan(
    settings: ProvisionSettings,
    existing: ExistingResources,
    cloud: Cloud,
    progress: Progress,
    workspace: Workspace,
) -> ProvisionPlan:
    """Return the plan for settings whose names are all chosen, and what exists under them."""
    compiled = load_template()
    variables: Mapping[str, Any] = compiled["variables"]
    machine = machine_of(settings, existing, variables["machines"][settings.gpu]["profile"])
    checked = preflight(
        settings, existing, cloud, workspace=workspace, added=machine.added, progress=progress
    )
    secrets, unread = _secrets(existing, cloud, progress)
    state = run_cancellable(progress, deployment_of(cloud, existing.names).state) if existing.app else None
    kept = _kept_image(settings, existing, state)
    found = [
        *unread,
        *conflicts(settings, existing, secrets),
        *([machine.blocker] if machine.blocker else []),
        *sent.unset_secrets(settings, existing, os.environ),
        *checked.blockers,
    ]
    image = kept or image_of(settings, compiled)
    changes = _changes(settings, existing, machine.profile, image, secrets, state, compiled)
    beside = RolloutCapacity()
    if changes and not found:
        beside = beside_of(settings, existing, machine.profile, cloud, progress)
        found += beside.blockers
    drawn = ProvisionPlan(
        settings=settings,
        existing=existing,
        blockers=tuple(dict.fromkeys(found)),
        warnings=tuple(checked.warnings),
        changes=tuple(changes),
        downtime=beside.downtime,
        added_profile=machine.added,
        unregistered=tuple(checked.unregistered),
        costs=costs_of(settings, checked.facts),
        parameters={
            **sent.parameters_of(
                settings, existing, machine.profile, sent.secret_names_of(settings, existing)
            ),
            **({"containerImage": kept} if kept else {}),
        },
    )
    if drawn.blockers or drawn.nothing_to_do or existing.group is None or drawn.unregistered:
        return drawn
    return _predicted(drawn, compiled, cloud, progress)


def deployment_of(cloud: Cloud, names: ResourceNames) -> ArmDeployment:
    """Return the one deployment of an app: its name is always the same, so that it is found again."""
    return ArmDeployment(cloud, names.subscription, names.resource_group, f"nbtoolkit-{names.app}")


def tags_of(settings: ProvisionSettings, compiled: Mapping[str, Any]) -> dict[str, str]:
    """Return what a deployment is marked with, so that a later run knows what it was asked for."""
    return {
        TEMPLATE_TAG: sent.fingerprint(compiled),
        SETTINGS_TAG: sent.fingerprint(sent.asked_for(settings)),
        IMAGE_TAG: sent.fingerprint(image_of(settings, compiled)),
    }


def image_of(settings: ProvisionSettings, compiled: Mapping[str, Any]) -> str:
    """Return the image: the one chosen, else the engine's pinned one."""
    return settings.image or str((compiled.get("variables") or {}).get("images", {}).get(settings.engine))


def _secrets(
    existing: ExistingResources, cloud: Cloud, progress: Progress
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the app's secrets, and a blocker where they may not be read: a change would drop them."""
    if existing.app is None:
        return [], []
    try:
        return azure_existing.app_secrets(cloud, existing.names, progress), []
    except AzureFailed as failed:
        if vars(failed).get("status") != 403:
            raise
        return [], forbidden(cloud, existing.names, failed, progress)


def _kept_image(
    settings: ProvisionSettings, existing: ExistingResources, state: DeploymentState | None
) -> str | None:
    """Return the app's image where it is neither ours nor chosen here, so that somebody else chose it."""
    if settings.image or existing.app is None or state is None:
        return None
    image, ours = AppState(existing.app).image, state.tags.get(IMAGE_TAG)
    return image if ours and ours != sent.fingerprint(image) else None


def _changes(
    settings: ProvisionSettings,
    existing: ExistingResources,
    profile: str,
    image: str,
    secrets: list[dict[str, Any]],
    state: DeploymentState | None,
    compiled: Mapping[str, Any],
) -> list[str]:
    """Return how the app would differ afterwards, nothing where it is as it would be made."""
    if existing.app is None:
        return []
    present = {one["name"]: str(one.get("value") or "") for one in secrets}
    wanted = sent.secret_values(settings, present, os.environ)
    found = [*drift(settings, AppState(existing.app), profile, image), *secret_drift(present, wanted)]
    if state is None:
        return [*found, "made by nbtoolkit's template: start program, probes, mount"]
    if state.status != "Succeeded":
        return [*found, f"the last deployment is {state.status.lower()}; it is run again"]
    tags = tags_of(settings, compiled)
    if state.tags.get(TEMPLATE_TAG) != tags[TEMPLATE_TAG]:
        found.append("the template is another one than at the last provision")
    elif not found and state.tags.get(SETTINGS_TAG) != tags[SETTINGS_TAG]:
        found.append("the settings are other ones than at the last provision")
    return found


def _predicted(
    drawn: ProvisionPlan, compiled: Mapping[str, Any], cloud: Cloud, progress: Progress
) -> ProvisionPlan:
    """Return the plan with Azure's own check and prediction; a prediction that fails is only a warning."""
    deployment = deployment_of(cloud, drawn.names)
    hidden = dict.fromkeys(drawn.parameters["secretNames"], _HIDDEN)
    parameters = {**drawn.parameters, "secrets": hidden}
    progress.phase("Letting Azure check the deployment")
    if drawn.added_profile is None:  # before it is added Azure would miss it
        causes = deployment.validate(compiled, parameters, progress)
        if causes:
            return replace(drawn, blockers=tuple(f"{cause} {_sentence(cause.next_step)}" for cause in causes))
    progress.phase("Asking Azure what would change")
    try:
        return replace(drawn, what_if=deployment.what_if(compiled, parameters, progress))
    except AzureFailed as failed:
        return replace(drawn, warnings=(*drawn.warnings, f"No prediction: {failed.message}"))


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
