"""Provision the inference app on Azure with one deployment; a repeated run changes nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

from nbtoolkit.azure.arm import created_resources, existing_resources
from nbtoolkit.azure.arm.deployment import load_template
from nbtoolkit.azure.arm.existing_resources import ExistingResources
from nbtoolkit.azure.arm.long_running import change, start_request
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.arm.resource_providers import register_providers
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.container_apps.app import ContainerApp, stopped
from nbtoolkit.azure.container_apps.models import AppState
from nbtoolkit.azure.errors.translate import translate_errors
from nbtoolkit.azure.resource_id import portal_url
from nbtoolkit.azure.startup.capacity_failures import with_replica_details
from nbtoolkit.errors import AzureFailed, NotApplied, ProvisionFailed
from nbtoolkit.progress import SILENT, Progress
from nbtoolkit.provisioning.conflicts import free_profile_name
from nbtoolkit.provisioning.discovery import Discovery, app_deployment, discover, wait_for_changes
from nbtoolkit.provisioning.plan import ProvisionPlan
from nbtoolkit.provisioning.plan_builder import SETTINGS_TAG, build_plan, deployment_tags
from nbtoolkit.provisioning.rollout_capacity import wait_for_revision
from nbtoolkit.provisioning.settings import PARAMETERS, ProvisionSettings, write_saved
from nbtoolkit.provisioning.template_parameters import INHERITED, secret_values
from nbtoolkit.provisioning.validation import blockers, raise_if_blocked
from nbtoolkit.utils.display import FactTable
from nbtoolkit.workspace import Workspace

TARGET = "azure"


@dataclass(frozen=True, repr=False)
class Provision(FactTable, ResourceNames):
    """The provisioned resources; ``created`` are the ids that this run created, ``seconds`` its duration."""

    created: tuple[str, ...] = ()
    changed: bool = False
    seconds: float = 0.0
    costs: tuple[tuple[str, str], ...] = ()
    note: str = ""
    """Why the new revision does not serve yet; blank if it does."""

    def rows(self) -> list[tuple[str, str]]:
        """Return label and text of each fact."""
        result = f"{len(self.created)} resources created" if self.changed else "nothing had to change"
        endpoint = f"https://{self.endpoint.removeprefix('https://')}" if self.endpoint else "none yet"
        return [
            ("app", self.app),
            ("endpoint", endpoint),
            ("key", "kept in the app's secrets as nbtoolkit-api-key"),
            ("resource group", f"{self.resource_group} ({result}, {self.seconds:.0f} s)"),
            ("share", f"{self.storage_account}/{self.file_share}"),
            ("portal", portal_url(self.app_id)),
            *self.costs,
            *([("note", self.note)] if self.note else []),
            ("next", "deploy an adapter"),
            ("remove", "teardown() of nbtoolkit.operate"),
        ]


def provision(
    settings: ProvisionSettings,
    *,
    apply: bool = False,
    workspace: Workspace | None = None,
    cloud: Cloud | None = None,
    progress: Progress | None = None,
    ready_timeout: float = 60,
) -> Provision:
    """Create the resources of the inference app and write ``infra/inference.config.json``.

    Without ``apply`` nothing is created: raises :class:`NotApplied` with the plan. If everything exists as
    the settings define it, nothing is written to Azure. Of existing resources only the app is changed, and it
    keeps its secrets, tags, domains and variables. A running deployment of the app is waited for, not started
    again. ``ready_timeout`` is in seconds, for the new revision of a changed app; one that pulls an image
    takes longer.

    Raises :class:`Blocked` with every blocker, :class:`ProvisionFailed` with cause and next step of each
    resource, :class:`Cancelled` with what Azure still finishes, :class:`Busy`, :class:`NotSignedIn`,
    :class:`AzureFailed`. Costs by the second while a replica runs, otherwise by stored data.

    >>> settings = ProvisionSettings(subscription=subscription, resource_group="my-rg", gpu="none")
    >>> provision(settings, apply=True).endpoint
    '....azurecontainerapps.io'
    """
    start = time.monotonic()
    workspace, cloud, progress = workspace or Workspace.find(), cloud or Cloud.shared(), progress or SILENT()
    with workspace.lock("provision", target=TARGET):
        completed = settings.completed(workspace)
        raise_if_blocked(blockers(completed))
        found = discover(completed, cloud, progress, workspace)
        if found.existing.group is not None:
            if found.deployment is not None and found.deployment.running:
                tags = found.deployment.tags
                _wait_for_running_deployment(found, tags, workspace, cloud, progress, apply=apply)
                # it may have created or changed every resource
                found = discover(completed, cloud, progress, workspace)
            created_resources.reconcile(workspace, cloud, progress)
        if apply and found.existing.changing:  # for example by the last run, if its response was lost
            found = wait_for_changes(completed, found, cloud, progress, workspace)
        plan = build_plan(found, cloud, progress, workspace)
        raise_if_blocked(plan.blockers)
        if plan.nothing_to_do:
            host = AppState(plan.existing.app or {}).host
            return _finish(plan, completed, workspace, host, start)
        if not apply:
            raise NotApplied(
                f"Nothing was created yet. {plan}",
                next_step="read the plan, then press Apply, or run the step with apply=True",
                plan=plan,
            )
        outputs = _deploy(plan, workspace, cloud, progress)
        result = _finish(plan, completed, workspace, outputs.get("ACA_APP_ENDPOINT"), start)
        if found.existing.app is None:
            return result  # the deployment of a new app succeeds only after its revision is ready
        return replace(result, note=wait_for_revision(ContainerApp(cloud, result), progress, ready_timeout))


def _wait_for_running_deployment(
    found: Discovery,
    tags: Mapping[str, str],
    workspace: Workspace,
    cloud: Cloud,
    progress: Progress,
    *,
    apply: bool,
) -> None:
    """Wait for the end of the app's running deployment, which has ``tags``.

    A deployment of another user or with other settings is only waited for: this run does not cancel it and
    ignores its failure.
    """
    deployment = app_deployment(cloud, found.existing.names)
    is_own = created_resources.started_here(workspace, deployment, tags)
    is_same = tags.get(SETTINGS_TAG) == deployment_tags(found.settings, {})[SETTINGS_TAG]
    if not is_own:
        origin = "started by another user"
    else:
        origin = "from an earlier run" if is_same else "with other settings"
    progress.phase(f"Waiting for the running deployment {deployment.name}, {origin}")
    progress.note(deployment.portal_url)
    try:
        deployment.watch(progress, cancels=is_own and apply)
    except ProvisionFailed:
        if is_own and is_same:
            created_resources.reconcile_if_reachable(workspace, cloud, progress)
            raise


def _deploy(plan: ProvisionPlan, workspace: Workspace, cloud: Cloud, progress: Progress) -> Mapping[str, Any]:
    """Carry out the plan and return the deployment's outputs."""
    names, settings = plan.names, plan.settings
    deployment, app = app_deployment(cloud, names), ContainerApp(cloud, names)
    if plan.unregistered:
        register_providers(cloud, names.subscription, plan.unregistered, progress)
    if plan.existing.group is None:
        progress.phase(f"Creating the resource group {names.resource_group}")
        _create_group(cloud, names, plan.location, settings.tags, progress)
        created_resources.remember_kept(workspace, names.group_id)
    parameters = {**plan.parameters, "createdBy": created_resources.workspace_mark(workspace)}
    if plan.added_profile and plan.existing.environment:
        progress.phase(f"Adding {plan.added_profile['workloadProfileType']} to {names.environment}")
        profile = _add_profile(cloud, names, plan.added_profile, progress)
        profile_id = f"{names.ids['environment']}/workloadProfiles/{profile}"
        created_resources.remember_kept(workspace, profile_id)
        parameters["workloadProfileName"] = profile
    progress.phase(f"Deploying to {names.resource_group}")
    progress.note(deployment.portal_url)
    # read again: the PUT replaces all secrets, so one that was added since the plan would be lost
    listed = existing_resources.app_secrets(cloud, names, progress) if plan.existing.app is not None else []
    present = {one["name"]: str(one.get("value") or "") for one in listed}
    parameters["secrets"] = secret_values(settings, present, os.environ)
    compiled = load_template()
    progress.check()
    # before the first PUT, so that teardown finds the resources of a run that was killed
    run = created_resources.begin_run(workspace, deployment.id, plan.creates)
    tags = {**deployment_tags(settings, compiled), created_resources.RUN_TAG: run}
    if plan.downtime:
        progress.phase("Stopping the app; nothing answers until the change is made")
    with stopped(app, progress) if plan.downtime else nullcontext():
        deployment.start(compiled, parameters, tags, progress)
        try:
            outputs = deployment.watch(progress)
        except ProvisionFailed as failed:
            created_resources.reconcile_if_reachable(workspace, cloud, progress)
            raise with_replica_details(failed, app, progress) from failed
        created_resources.reconcile_if_reachable(workspace, cloud, progress)
    return outputs


def _create_group(
    cloud: Cloud, names: ResourceNames, location: str, tags: Mapping[str, str], progress: Progress
) -> None:
    """Create the resource group. One request; raises :class:`AzureFailed`."""
    groups: Any = cloud.resources(names.subscription).resource_groups
    body = {"location": location, "tags": dict(tags)}
    action = f"create the resource group {names.resource_group}"
    with translate_errors(action):
        start_request(action, lambda: groups.create_or_update(names.resource_group, body), progress)


def _add_profile(cloud: Cloud, names: ResourceNames, profile: Mapping[str, str], progress: Progress) -> str:
    """Add a workload profile to an environment and return its name.

    Adds nothing if the environment has a profile of this type by now, and returns that one's name. A PATCH
    replaces the list of profiles, so the request repeats those that the environment has at that moment.
    """
    client: Any = cloud.containerapps(names.subscription)
    profile_type = profile["workloadProfileType"]
    group_and_name = (names.resource_group, names.environment)

    def begin() -> Any:
        body = client.managed_environments.get(*group_and_name).as_dict()
        profiles = ExistingResources(names, environment=body).profiles
        if _name_of_type(profiles, profile_type):
            return None
        new = {"name": free_profile_name(profile["name"], profiles), "workloadProfileType": profile_type}
        patch = {"location": body["location"], "properties": {"workloadProfiles": [*profiles, new]}}
        return client.managed_environments.begin_update(*group_and_name, patch)

    action = f"add the profile {profile['name']} to the environment {names.environment}"
    lost: AzureFailed | None = None
    try:
        change(names.environment_id, action, begin, progress, retry_interval=cloud.poll_interval)
    except AzureFailed as error:
        if error.status is not None:
            raise
        lost = error  # the response was lost: Azure may have added the profile all the same
    settled = existing_resources.settled("environment", cloud, names, progress)
    name = _name_of_type(ExistingResources(names, environment=settled).profiles, profile_type)
    if lost is not None and name is None:
        raise lost
    return name or profile["name"]


def _name_of_type(profiles: Sequence[Mapping[str, Any]], profile_type: str) -> str | None:
    return next(
        (str(one["name"]) for one in profiles if one.get("workloadProfileType") == profile_type), None
    )


def _finish(
    plan: ProvisionPlan,
    settings: ProvisionSettings,
    workspace: Workspace,
    endpoint: str | None,
    start: float,
) -> Provision:
    """Write the names and the endpoint to the workspace's files and return the result."""
    names = replace(plan.names, endpoint=endpoint)
    names.write(workspace)
    if settings.remember:
        defaults, inherited = ProvisionSettings(), set(INHERITED) - settings.model_fields_set
        changed = {
            name: value
            for name in PARAMETERS
            if name not in inherited and (value := getattr(plan.settings, name)) != getattr(defaults, name)
        }
        write_saved(workspace, changed)
    return Provision(
        **vars(names),
        created=() if plan.nothing_to_do else tuple(plan.creates),
        changed=not plan.nothing_to_do,
        seconds=time.monotonic() - start,
        costs=plan.costs,
    )
