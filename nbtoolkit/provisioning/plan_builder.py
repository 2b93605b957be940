"""Build the plan of a provision with read requests only."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nbtoolkit.azure.arm import existing_resources
from nbtoolkit.azure.arm.deployment import load_template
from nbtoolkit.azure.arm.deployment_operations import DeploymentState
from nbtoolkit.azure.arm.existing_resources import ExistingResources
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.container_apps.models import AppState
from nbtoolkit.errors import AzureFailed
from nbtoolkit.progress import SILENT, Progress
from nbtoolkit.provisioning.checks import as_sentence
from nbtoolkit.provisioning.checks.permissions import blockers_of_refusal
from nbtoolkit.provisioning.conflicts import choose_profile, conflicts
from nbtoolkit.provisioning.discovery import Discovery, app_deployment, discover
from nbtoolkit.provisioning.plan import ProvisionPlan, cost_rows
from nbtoolkit.provisioning.preflight import preflight
from nbtoolkit.provisioning.rollout_capacity import check_rollout_capacity
from nbtoolkit.provisioning.settings import ProvisionSettings
from nbtoolkit.provisioning.template_parameters import (
    all_secret_names,
    app_changes,
    fingerprint,
    fingerprinted_settings,
    missing_secrets,
    secret_changes,
    secret_values,
    template_parameters,
)
from nbtoolkit.provisioning.validation import blockers, raise_if_blocked
from nbtoolkit.workspace import Workspace

TEMPLATE_TAG, SETTINGS_TAG, IMAGE_TAG = "nbtoolkit-template", "nbtoolkit-settings", "nbtoolkit-image"
_PLACEHOLDER = "hidden"
"""Value of every secret in a validation or prediction: Azure does not need the real one."""


def plan(
    settings: ProvisionSettings,
    *,
    workspace: Workspace | None = None,
    cloud: Cloud | None = None,
    progress: Progress | None = None,
) -> ProvisionPlan:
    """Return what :func:`provision` would create, change and keep, the costs and the blockers.

    Takes a minute at most and writes nothing, neither to Azure nor here. Raises :class:`Blocked` if the
    settings alone cannot work, :class:`NotSignedIn`, :class:`AzureFailed`.
    """
    workspace, cloud, progress = workspace or Workspace.find(), cloud or Cloud.shared(), progress or SILENT()
    settings = settings.completed(workspace)
    raise_if_blocked(blockers(settings))
    return build_plan(discover(settings, cloud, progress, workspace), cloud, progress, workspace)


def build_plan(found: Discovery, cloud: Cloud, progress: Progress, workspace: Workspace) -> ProvisionPlan:
    """Return the plan for a snapshot of what exists."""
    settings, existing, deployment = found.settings, found.existing, found.deployment
    compiled = load_template()
    choice = choose_profile(settings, existing, compiled["variables"]["machines"][settings.gpu]["profile"])
    checked = preflight(settings, existing, cloud, workspace=workspace, added=choice.added, progress=progress)
    secrets, forbidden = _read_secrets(found, cloud, progress)
    found_blockers = [
        *forbidden,
        *conflicts(settings, existing, secrets),
        *([choice.blocker] if choice.blocker else []),
        *missing_secrets(settings, existing, os.environ),
        *checked.blockers,
    ]
    kept_image = _image_of_others(settings, existing, deployment)
    image = kept_image or image_of(settings, compiled)
    changes = _changes(found, choice.profile, image, secrets, compiled)
    downtime = False
    if changes and not found_blockers:
        downtime, too_few = check_rollout_capacity(settings, existing, choice.profile, cloud, progress)
        found_blockers += too_few
    parameters = template_parameters(settings, existing, choice.profile, all_secret_names(settings, existing))
    built = ProvisionPlan(
        settings=settings,
        existing=existing,
        blockers=tuple(dict.fromkeys(found_blockers)),
        warnings=checked.warnings,
        changes=tuple(changes),
        downtime=downtime,
        added_profile=choice.added,
        unregistered=checked.unregistered,
        costs=cost_rows(settings, checked.facts.get("price", "unknown")),
        parameters=parameters | ({"containerImage": kept_image} if kept_image else {}),
    )
    if built.blockers or built.nothing_to_do or existing.group is None or built.unregistered:
        return built
    return _with_prediction(built, compiled, cloud, progress)


def deployment_tags(settings: ProvisionSettings, compiled: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of a deployment by which a later run recognises the same request."""
    return {
        TEMPLATE_TAG: fingerprint(compiled),
        SETTINGS_TAG: fingerprint(fingerprinted_settings(settings)),
        IMAGE_TAG: fingerprint(image_of(settings, compiled)),
    }


def image_of(settings: ProvisionSettings, compiled: Mapping[str, Any]) -> str:
    """Return the chosen image, else the engine's pinned one."""
    return settings.image or str((compiled.get("variables") or {}).get("images", {}).get(settings.engine))


def _read_secrets(
    found: Discovery, cloud: Cloud, progress: Progress
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Return the app's secrets, and blockers if reading them is forbidden: a PUT would delete them."""
    if found.existing.app is None:
        return [], ()
    names = found.existing.names
    try:
        return existing_resources.app_secrets(cloud, names, progress), ()
    except AzureFailed as failed:
        if failed.status != 403:
            raise
        return [], blockers_of_refusal(found.settings, names, failed, cloud, progress)


def _image_of_others(
    settings: ProvisionSettings, existing: ExistingResources, deployment: DeploymentState | None
) -> str | None:
    """Return the app's image if another tool set it, that is neither the settings nor the last deployment."""
    if settings.image or existing.app is None or deployment is None:
        return None
    image, deployed = AppState(existing.app).image, deployment.tags.get(IMAGE_TAG)
    return image if deployed and deployed != fingerprint(image) else None


def _changes(
    found: Discovery, profile: str, image: str, secrets: list[dict[str, Any]], compiled: Mapping[str, Any]
) -> list[str]:
    """Return how a provision would change the app; nothing for a new app."""
    settings, deployment = found.settings, found.deployment
    if found.existing.app is None:
        return []
    present = {one["name"]: str(one.get("value") or "") for one in secrets}
    wanted = secret_values(settings, present, os.environ)
    changes = [
        *app_changes(settings, AppState(found.existing.app), profile, image),
        *secret_changes(present, wanted),
    ]
    if deployment is None:
        return [*changes, "nbtoolkit's template: start program, probes, mount"]
    if deployment.status != "Succeeded":
        return [*changes, f"the last deployment is {deployment.status.lower()}; it runs again"]
    tags = deployment_tags(settings, compiled)
    if deployment.tags.get(TEMPLATE_TAG) != tags[TEMPLATE_TAG]:
        changes.append("the template differs from that of the last provision")
    elif not changes and deployment.tags.get(SETTINGS_TAG) != tags[SETTINGS_TAG]:
        changes.append("the settings differ from those of the last provision")
    return changes


def _with_prediction(
    built: ProvisionPlan, compiled: Mapping[str, Any], cloud: Cloud, progress: Progress
) -> ProvisionPlan:
    """Return the plan with Azure's validation and prediction; a failed prediction is only a warning."""
    deployment = app_deployment(cloud, built.names)
    placeholders = dict.fromkeys(built.parameters["secretNames"], _PLACEHOLDER)
    parameters = {**built.parameters, "secrets": placeholders}
    progress.phase("Validating the deployment in Azure")
    if built.added_profile is None:  # Azure would miss a profile that is still to be added
        causes = deployment.validate(compiled, parameters, progress)
        if causes:
            return replace(built, blockers=tuple(f"{one} {as_sentence(one.next_step)}" for one in causes))
    progress.phase("Predicting the changes in Azure")
    try:
        return replace(built, what_if=deployment.what_if(compiled, parameters, progress))
    except AzureFailed as failed:
        return replace(built, warnings=(*built.warnings, f"No prediction: {failed.message}"))
