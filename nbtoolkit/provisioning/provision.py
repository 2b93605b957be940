"""Provision: one deployment, after its plan was seen; again it finds what is done."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from nbtoolkit.azure.arm import create as writes
from nbtoolkit.azure.arm import created_resources as created
from nbtoolkit.azure.arm import existing_resources as azure_existing
from nbtoolkit.azure.arm import ownership
from nbtoolkit.azure.arm.deployment import load_template
from nbtoolkit.azure.arm.resource_providers import register_providers
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.container_apps.app import ContainerApp
from nbtoolkit.azure.container_apps.downtime import stopped
from nbtoolkit.azure.container_apps.models import AppState
from nbtoolkit.azure.startup.capacity_failures import with_replica_details
from nbtoolkit.errors import NotApplied, ProvisionFailed
from nbtoolkit.progress import SILENT, Progress
from nbtoolkit.provisioning import saved_defaults as choices
from nbtoolkit.provisioning import template_parameters as sent
from nbtoolkit.provisioning.discovery import look, refuse
from nbtoolkit.provisioning.following import FOLLOWED
from nbtoolkit.provisioning.plan import ProvisionPlan
from nbtoolkit.provisioning.plan_builder import SETTINGS_TAG, build_plan, deployment_of, tags_of
from nbtoolkit.provisioning.result import Provision
from nbtoolkit.provisioning.rollout_capacity import unready
from nbtoolkit.provisioning.settings import ProvisionSettings
from nbtoolkit.provisioning.validation import blockers
from nbtoolkit.utils.threads import run_cancellable
from nbtoolkit.workspace import Workspace

TARGET = "azure"


def provision(
    settings: ProvisionSettings,
    *,
    apply: bool = False,
    workspace: Workspace | None = None,
    cloud: Cloud | None = None,
    progress: Progress | None = None,
) -> Provision:
    """Make what the inference app needs on Azure and write ``infra/inference.config.json``.

    Without ``apply`` nothing is created: raises :class:`NotApplied` with the plan. Where all is there as the
    settings want it, nothing is written to Azure; what exists is never written but the app itself, which
    keeps its secrets, tags, domains and variables. A deployment that runs already is taken up again.

    Raises :class:`Blocked` with every blocker, :class:`ProvisionFailed` with cause and next step of each
    resource, :class:`Cancelled` saying what Azure still finishes, :class:`Busy`, :class:`NotSignedIn`,
    :class:`AzureFailed`. Costs by the second while a replica runs, by what is stored otherwise.
    """
    start = time.monotonic()
    workspace, cloud, progress = workspace or Workspace.find(), cloud or Cloud.shared(), progress or SILENT()
    with workspace.lock("provision", target=TARGET):
        asked = settings.completed(workspace)
        refuse(blockers(asked))
        settings, existing = look(asked, cloud, progress, workspace)
        if existing.group is not None:
            if _taken_up(settings, existing, workspace, cloud, progress, apply=apply):
                settings, existing = look(asked, cloud, progress, workspace)
            ownership.reconcile(workspace, cloud, progress)
        if apply and existing.changing:  # such as by the run before, whose answer was lost
            progress.phase("Waiting for Azure to end what it does to environment and app")
            azure_existing.settled_environment(cloud, existing.names, progress)
            azure_existing.settled_app(cloud, existing.names, progress)
            settings, existing = look(asked, cloud, progress, workspace)
        drawn = build_plan(settings, existing, cloud, progress, workspace)
        refuse(list(drawn.blockers))
        if drawn.nothing_to_do:
            return _finished(drawn, asked, workspace, _endpoint(drawn), start)
        if not apply:
            raise NotApplied(
                f"Nothing was created yet. {drawn}",
                next_step="look at the plan, then press Apply, or run the step with apply=True",
                plan=drawn,
            )
        outputs = _deployed(drawn, workspace, cloud, progress)
        done = _finished(drawn, asked, workspace, outputs.get("ACA_APP_ENDPOINT"), start)
        if existing.app is None:
            return done  # Azure ends a deployment of a new app only when that runs
        return replace(done, note=unready(ContainerApp(cloud, done), progress))


def _taken_up(
    settings: ProvisionSettings,
    existing: azure_existing.ExistingResources,
    workspace: Workspace,
    cloud: Cloud,
    progress: Progress,
    *,
    apply: bool,
) -> bool:
    """Wait for a deployment of this app that runs already; tell whether there was one.

    One that somebody else started, or that was asked for otherwise, is only waited for: whether it fails is
    not this run's matter, nor may this run cancel it.
    """
    deployment = deployment_of(cloud, existing.names)
    state = run_cancellable(progress, deployment.state)
    if state is None or not state.running:
        return False
    own = ownership.started_here(workspace, deployment, state.tags)
    alike = state.tags.get(SETTINGS_TAG) == tags_of(settings, {})[SETTINGS_TAG]
    whose = (
        "from an earlier run"
        if own and alike
        else "with other settings"
        if own
        else "started by somebody else"
    )
    progress.phase(f"Taking up the deployment {deployment.name}, which runs already {whose}")
    progress.note(deployment.portal_url)
    try:
        deployment.watch(progress, cancels=own and apply)
    except ProvisionFailed:
        if own and alike:
            ownership.reconcile_if_reachable(workspace, cloud, progress)
            raise
    return True


def _deployed(
    drawn: ProvisionPlan, workspace: Workspace, cloud: Cloud, progress: Progress
) -> Mapping[str, Any]:
    """Carry the plan out and return the deployment's outputs."""
    names, settings = drawn.names, drawn.settings
    deployment = deployment_of(cloud, names)
    if drawn.unregistered:
        register_providers(cloud, names.subscription, drawn.unregistered, progress)
    if drawn.existing.group is None:
        progress.phase(f"Creating the resource group {names.resource_group}")
        writes.create_group(cloud, names, drawn.location, settings.tags, progress)
        created.remember_kept(workspace, names.group_id)
    chosen: dict[str, Any] = {}
    if drawn.added_profile and drawn.existing.environment:
        progress.phase(f"Adding {drawn.added_profile['workloadProfileType']} to {names.environment}")
        profile = writes.add_profile(cloud, names, drawn.added_profile, progress)
        created.remember_kept(workspace, f"{names.ids['environment']}/workloadProfiles/{profile}")
        chosen = {"workloadProfileName": profile}
    progress.phase(f"Deploying to {names.resource_group}")
    progress.note(deployment.portal_url)
    listed = azure_existing.app_secrets(cloud, names, progress) if drawn.existing.app is not None else []
    present = {one["name"]: str(one.get("value") or "") for one in listed}
    secrets = sent.secret_values(settings, present, os.environ)
    compiled = load_template()
    progress.check()
    chosen |= {"secrets": secrets, "createdBy": created.workspace_mark(workspace)}
    parameters = {**drawn.parameters, **chosen}
    # before anything is made: a run that is killed must not leave what no teardown knows of
    run = created.begin_run(workspace, deployment.id, drawn.creates)
    tags = {**tags_of(settings, compiled), ownership.RUN_TAG: run}
    app = ContainerApp(cloud, names)
    if drawn.downtime:
        progress.phase("Stopping the app; nothing answers until the change is made")
    with stopped(app, progress) if drawn.downtime else nullcontext():
        deployment.start(compiled, parameters, tags, progress)
        try:
            outputs = deployment.watch(progress)
        except ProvisionFailed as failed:
            ownership.reconcile_if_reachable(workspace, cloud, progress)
            raise with_replica_details(failed, app, progress) from failed
        ownership.reconcile_if_reachable(workspace, cloud, progress)
    return outputs


def _finished(
    drawn: ProvisionPlan, asked: ProvisionSettings, workspace: Workspace, endpoint: str | None, start: float
) -> Provision:
    """Write what was provisioned into the workspace's files, where it differs, and return it."""
    place = replace(drawn.names, endpoint=endpoint)
    place.write(workspace)
    if asked.remember:
        left = set(FOLLOWED) - asked.model_fields_set
        chosen = _chosen(drawn.settings)
        choices.remember(workspace, {name: value for name, value in chosen.items() if name not in left})
    return Provision(
        **vars(place),
        created=() if drawn.nothing_to_do else tuple(drawn.creates),
        changed=not drawn.nothing_to_do,
        seconds=time.monotonic() - start,
        costs=drawn.costs,
    )


def _chosen(settings: ProvisionSettings) -> dict[str, Any]:
    """Return what differs from the defaults, names above all, by setting."""
    plain = ProvisionSettings()
    values = {name: getattr(settings, name) for name in choices.PARAMETERS}
    return {name: value for name, value in values.items() if value != getattr(plain, name)}


def _endpoint(drawn: ProvisionPlan) -> str | None:
    return AppState(drawn.existing.app or {}).host
