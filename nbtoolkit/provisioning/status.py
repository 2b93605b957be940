"""Where this workspace stands on Azure before anything is run: what was provisioned, and what runs now."""

from __future__ import annotations

from dataclasses import dataclass

from nbtoolkit.azure.arm.deployment import ArmDeployment
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.portal_urls import portal_url
from nbtoolkit.errors import InvalidSettings, NotSignedIn
from nbtoolkit.provisioning.plan_builder import deployment_of
from nbtoolkit.provisioning.settings import ProvisionSettings
from nbtoolkit.provisioning.validation import blockers
from nbtoolkit.utils.display import FactTable
from nbtoolkit.workspace import Workspace


@dataclass(frozen=True, repr=False)
class Standing(FactTable):
    """What the workspace's files say, and whether Azure works on a deployment of it right now."""

    provisioned: ResourceNames | None
    running: ArmDeployment | None = None
    ended: str | None = None
    """How a deployment ended that this workspace has not taken up yet, since its kernel was gone."""
    signed_in: bool = True

    def rows(self) -> list[tuple[str, str]]:
        """Return what is known, as label and text."""
        place = self.provisioned
        if place is None:
            rows = [("provisioned", "nothing by this workspace yet")]
        else:
            rows = [("provisioned", f"{place.app} in {place.resource_group}")]
            rows += (
                [("endpoint", f"https://{place.endpoint.removeprefix('https://')}")] if place.endpoint else []
            )
            rows.append(("portal", portal_url(place.app_id)))
        if self.running:
            rows += [("running now", self.running.name), ("its page", self.running.portal_url)]
        if self.ended:
            rows.append(("meanwhile", f"the deployment {self.ended}. Plan takes up what there is"))
        if not self.signed_in:
            rows.append(("Azure", "nobody is signed in, so what runs there is not known"))
        return rows


def status(settings: ProvisionSettings, workspace: Workspace, cloud: Cloud) -> Standing:
    """Return where things stand; one request, and none where nothing is chosen yet.

    Raises :class:`AzureFailed`.
    """
    try:
        place = ResourceNames.read(workspace)
    except InvalidSettings:
        place = None
    settings = settings.completed(workspace)
    if blockers(settings):
        return Standing(place)
    deployment = deployment_of(cloud, settings.resource_names())
    try:
        state = deployment.state()
    except NotSignedIn:
        return Standing(place, signed_in=False)
    if state is None:
        return Standing(place)
    if state.running:
        return Standing(place, deployment)
    return Standing(place, ended=f"{deployment.name} ended: {state.status}" if place is None else None)
