"""The status of a workspace's resources on Azure: what was provisioned, and a deployment that still runs."""

from __future__ import annotations

from dataclasses import dataclass

from nbtoolkit.azure.arm.deployment import ArmDeployment
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.portal_urls import portal_url
from nbtoolkit.errors import InvalidSettings, NotSignedIn
from nbtoolkit.provisioning.discovery import app_deployment
from nbtoolkit.provisioning.settings import ProvisionSettings
from nbtoolkit.provisioning.validation import blockers
from nbtoolkit.utils.display import FactTable
from nbtoolkit.workspace import Workspace


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
        if names is None:
            rows = [("provisioned", "nothing by this workspace yet")]
        else:
            rows = [("provisioned", f"{names.app} in {names.resource_group}")]
            if names.endpoint:
                rows.append(("endpoint", f"https://{names.endpoint.removeprefix('https://')}"))
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
    if state is None:
        return ProvisionStatus(names)
    if state.running:
        return ProvisionStatus(names, deployment)
    ended = f"{deployment.name} ended: {state.status}" if names is None else None
    return ProvisionStatus(names, ended=ended)
