"""Read what exists on Azure: for a plan all resources at once, for a form the last deployment's state."""

from __future__ import annotations

from dataclasses import dataclass, replace

from nbtoolkit.azure.arm import created_resources, existing_resources
from nbtoolkit.azure.arm.deployment import ArmDeployment
from nbtoolkit.azure.arm.deployment_operations import DeploymentState
from nbtoolkit.azure.arm.existing_resources import Body, ExistingResources
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.container_apps.models import AppState, EnvironmentState
from nbtoolkit.azure.resource_id import portal_url
from nbtoolkit.errors import AzureFailed, InvalidSettings, NotSignedIn
from nbtoolkit.progress import Progress
from nbtoolkit.provisioning.checks.permissions import blockers_of_refusal
from nbtoolkit.provisioning.settings import NAMES, ProvisionSettings
from nbtoolkit.provisioning.template_parameters import inherit_from_app
from nbtoolkit.provisioning.validation import blockers, raise_if_blocked
from nbtoolkit.utils.display import FactTable
from nbtoolkit.utils.threads import run_cancellable
from nbtoolkit.workspace import Workspace


@dataclass(frozen=True)
class Discovery:
    """A snapshot of the resource group, which plan, preflight and deployment share.

    In ``settings`` the region and every name are set. ``deployment`` is the state of the app's last
    deployment, None without any.
    """

    settings: ProvisionSettings
    existing: ExistingResources
    deployment: DeploymentState | None


def discover(
    settings: ProvisionSettings, cloud: Cloud, progress: Progress, workspace: Workspace
) -> Discovery:
    """Read the existing resources and the state of the app's deployment. At most eight requests.

    Raises :class:`Blocked` with all missing permissions if a read is forbidden, :class:`AzureFailed`.
    """
    progress.phase("Reading what exists on Azure")

    def resolve_names(group_id: str, app: Body | None) -> ResourceNames:
        return settings.with_values(**_environment_of_app(settings, app)).resource_names(group_id)

    names = settings.resource_names()
    try:
        existing = existing_resources.discover(cloud, names, progress, resolve_names)
    except AzureFailed as failed:
        if failed.status != 403:
            raise
        raise_if_blocked(blockers_of_refusal(settings, names, failed, cloud, progress))
        raise
    deployment = None
    if existing.group is not None:
        deployment = run_cancellable(progress, app_deployment(cloud, existing.names).state)
    return _complete(settings, existing, deployment, cloud, progress, workspace)


def wait_for_changes(
    settings: ProvisionSettings, found: Discovery, cloud: Cloud, progress: Progress, workspace: Workspace
) -> Discovery:
    """Wait until Azure has ended its changes of environment and app; return the snapshot with both.

    ``settings`` are those given to :func:`discover`.
    """
    progress.phase("Waiting until Azure has ended its changes of environment and app")
    existing = existing_resources.wait_until_settled(found.existing, cloud, progress)
    return _complete(settings, existing, found.deployment, cloud, progress, workspace)


def app_deployment(cloud: Cloud, names: ResourceNames) -> ArmDeployment:
    """Return the deployment of an app; its name is always the same, so a later run finds it."""
    return ArmDeployment(cloud, names.subscription, names.resource_group, f"nbtoolkit-{names.app}")


def _complete(
    settings: ProvisionSettings,
    existing: ExistingResources,
    deployment: DeploymentState | None,
    cloud: Cloud,
    progress: Progress,
    workspace: Workspace,
) -> Discovery:
    """Set names, region and the app's own values in the settings.

    An empty environment that this workspace created and that failed counts as missing: creating it again
    repairs it.
    """
    if _is_failed_own_environment(existing, workspace, cloud, progress):
        existing = replace(existing, environment=None, environment_storage=None)
    names = existing.names
    complete = settings.with_values(
        resource_group=names.resource_group,
        location=settings.location or existing.location or "",
        **{name: getattr(names, name.removesuffix("_name")) for name in NAMES},
    )
    return Discovery(inherit_from_app(complete, existing.app), existing, deployment)


def _is_failed_own_environment(
    existing: ExistingResources, workspace: Workspace, cloud: Cloud, progress: Progress
) -> bool:
    if EnvironmentState(existing.environment or {}).provisioning_state != "Failed":
        return False
    new, _ = created_resources.created_by_last_run(workspace, cloud, progress)
    created = [*created_resources.recall(workspace), *new]
    is_own = existing.names.ids["environment"].lower() in map(str.lower, created)
    return is_own and existing_resources.environment_is_empty(cloud, existing.names, progress)


def _environment_of_app(settings: ProvisionSettings, app: Body | None) -> dict[str, str]:
    """Return the environment of an existing app, and its storage's name there, if they are not set."""
    state = AppState(app or {})
    volume = next(iter(state.volumes), {})
    values = {
        "environment_name": state.environment_id.rpartition("/")[2],
        "environment_storage": str(volume.get("storageName") or ""),
    }
    return {name: value for name, value in values.items() if value and not getattr(settings, name)}


@dataclass(frozen=True, repr=False)
class ProvisionStatus(FactTable):
    """The provisioned resources of the workspace, and the state of its deployment in Azure."""

    provisioned: ResourceNames | None
    running: ArmDeployment | None = None
    ended: str | None = None
    """The result of a deployment that no kernel waited for; the next plan finds its resources."""
    signed_in: bool = True

    def rows(self) -> list[tuple[str, str]]:
        """Return label and text of each fact."""
        names = self.provisioned
        rows = [
            (
                "provisioned",
                f"{names.app} in {names.resource_group}" if names else "nothing by this workspace yet",
            )
        ]
        if names and names.endpoint:
            rows.append(("endpoint", f"https://{names.endpoint.removeprefix('https://')}"))
        if names:
            rows.append(("portal", portal_url(names.app_id)))
        if self.running:
            rows += [("running now", self.running.name), ("its page", self.running.portal_url)]
        if self.ended:
            rows.append(("meanwhile", f"the deployment {self.ended}. Plan shows the existing resources"))
        if not self.signed_in:
            rows.append(("Azure", "no sign-in, so the state of a deployment is unknown"))
        return rows


def status(settings: ProvisionSettings, workspace: Workspace, cloud: Cloud) -> ProvisionStatus:
    """Return the status; one request, none if the settings name no resource group yet.

    Raises :class:`AzureFailed`.
    """
    try:
        names = ResourceNames.read(workspace)
    except InvalidSettings:
        names = None
    settings = settings.completed(workspace)
    if blockers(settings):
        return ProvisionStatus(names)
    deployment = app_deployment(cloud, settings.resource_names())
    try:
        state = deployment.state()
    except NotSignedIn:
        return ProvisionStatus(names, signed_in=False)
    if state is not None and state.running:
        return ProvisionStatus(names, deployment)
    ended = f"{deployment.name} ended: {state.status}" if state is not None and names is None else None
    return ProvisionStatus(names, ended=ended)
