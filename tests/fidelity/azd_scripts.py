"""The recorded runs of azd that concern deployments to groups.

azd deploys to subscriptions, nbtoolkit to groups; ARM's responses have one form. Requests of azd to a
subscription are sent to a group here, with a recorded template of a group if the recorded one creates groups.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from .arm_replay import ArmReplay, Comparison
from .exchanges import Exchange, as_json

REGION = "eastus2"
VERSION = "api-version=2021-04-01"
_AT_SUBSCRIPTION = re.compile(r"(/subscriptions/[^/]+)(/providers/Microsoft\.Resources/deployments)")


@dataclass
class AzdScripts:
    """Sessions from the recorded lines; each method is one and needs a new double."""

    lines: dict[int, Exchange] = field(repr=False)

    @classmethod
    def of(cls, exchanges: list[Exchange]) -> AzdScripts:
        """Number the lines as in the file."""
        return cls(dict(enumerate(exchanges, 1)))

    def all(self) -> list[Any]:
        """Return the sessions."""
        return [self.group, self.prediction, self.repeated, self.workspace, self.app]

    def group(self, replay: ArmReplay) -> Iterator[Comparison]:
        """A group, its deployment, its resources, and its deletion."""
        for line in range(77, 89):
            yield replay.replay(self.lines[line])
        replay.prepare("PUT", f"/resourcegroups/other?{VERSION}", {"location": REGION})
        yield replay.replay(self.lines[3])

    def prediction(self, replay: ArmReplay) -> Iterator[Comparison]:
        """What-if before and after a deployment."""
        name = "rg-azdtest-d8523ca"
        replay.prepare("PUT", f"/resourcegroups/{name}?{VERSION}", {"location": REGION})
        yield replay.replay(self._at_group(122, name))
        yield replay.replay(self.lines[123])
        first = as_json(self._at_group(122, name).sent)
        path = f"/resourcegroups/{name}/providers/Microsoft.Resources/deployments/first?{VERSION}"
        replay.prepare("PUT", path, first)
        yield replay.replay(self._at_group(129, name, change="allowBlobPublicAccess"))
        yield replay.replay(self.lines[130])

    def repeated(self, replay: ArmReplay) -> Iterator[Comparison]:
        """A second deployment of the same name."""
        name = "rg-azdtest-d209f3e"
        first = self._at_group(31, name)
        replay.prepare("PUT", f"/resourcegroups/{name}?{VERSION}", {"location": REGION})
        path = re.sub(r"^/subscriptions/[^/]+", "", first.path)
        replay.prepare("PUT", f"{path}?{VERSION}", as_json(first.sent))
        yield replay.replay(first)
        yield replay.replay(self.lines[32])

    def workspace(self, replay: ArmReplay) -> Iterator[Comparison]:
        """Regions, groups by tag, and the deletion of a workspace and a group."""
        name = "rg-azdtest-d209f3e"
        tags = self.lines[13].json["value"][0]["tags"]
        replay.prepare("PUT", f"/resourcegroups/{name}?{VERSION}", {"location": REGION, "tags": tags})
        shown = self.lines[25]
        path = re.sub(r"^/subscriptions/[^/]+", "", shown.path)
        sent = {"location": REGION, "tags": shown.json["tags"], "properties": {"retentionInDays": 30}}
        replay.prepare("PUT", f"{path}?api-version=2025-07-01", sent)
        for line in (1, 2, 13, 25, 26, 27, 29, 30):
            yield replay.replay(self.lines[line])

    def app(self, replay: ArmReplay) -> Iterator[Comparison]:
        """A new revision of an app, unreachable until there is a machine."""
        shown = self.lines[60].json
        self._make_app(replay, shown)
        for line in (60, 61, 62, 63):
            yield replay.replay(self.lines[line])
        path = re.sub(r"^/subscriptions/[^/]+", "", self.lines[60].path)
        sent = {"properties": {"template": {"revisionSuffix": "cold", "scale": {"minReplicas": 0}}}}
        replay.prepare("PATCH", f"{path}?api-version=2025-01-01", sent)
        latest = replay.double.apps.app(shown["name"])
        replay.double.apps.wait_for(lambda: latest.serving is latest.latest, 10, "the new revision")
        replay.double.apps.scale_to_zero(shown["name"])
        replay.double.apps.hold(shown["name"])
        yield replay.replay(self.lines[64])
        replay.double.apps.hold(shown["name"], stuck=False)
        yield replay.replay(self.lines[65])

    def _make_app(self, replay: ArmReplay, shown: dict[str, Any]) -> None:
        properties = shown["properties"]
        group = shown["id"].split("/")[4]
        replay.prepare("PUT", f"/resourcegroups/{group}?{VERSION}", {"location": REGION})
        start = f"/resourcegroups/{group}/providers/Microsoft.App"
        environment = properties["environmentId"].rsplit("/", 1)[1]
        profiles = [{"name": properties["workloadProfileName"], "workloadProfileType": "Consumption"}]
        replay.prepare(
            "PUT",
            f"{start}/managedEnvironments/{environment}?api-version=2025-01-01",
            {"location": REGION, "properties": {"workloadProfiles": profiles}},
        )
        kept = ("environmentId", "workloadProfileName", "configuration", "template")
        sent = {
            "location": REGION,
            "tags": shown["tags"],
            "identity": {
                "type": shown["identity"]["type"],
                "userAssignedIdentities": {name: {} for name in shown["identity"]["userAssignedIdentities"]},
            },
            "properties": {name: properties[name] for name in kept},
        }
        text = re.sub(
            r"(?i)(/subscriptions/)[0-9a-f-]{36}", rf"\g<1>{replay.double.subscription}", json.dumps(sent)
        )
        replay.prepare(
            "PUT", f"{start}/containerApps/{shown['name']}?api-version=2025-01-01", json.loads(text)
        )

    def _at_group(self, line: int, group: str, change: str = "") -> Exchange:
        """Return a recorded deployment to a subscription as one to a group.

        A template with resources is replaced by the one that azd deployed to a group (line 82); with
        ``change`` the storage account in it gets another setting.
        """
        recorded = self.lines[line]
        body = as_json(recorded.sent)
        body.pop("location", None)
        template = body["properties"]["template"]
        if template["resources"]:
            body["properties"] = json.loads(json.dumps(as_json(self.lines[82].sent)["properties"]))
            template = body["properties"]["template"]
            template["resources"][0]["tags"] = {"azd-env-name": "[parameters('environmentName')]"}
        else:
            template["$schema"] = (
                "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#"
            )
        if change:
            template["resources"][0]["properties"][change] = True
        url = _AT_SUBSCRIPTION.sub(rf"\1/resourcegroups/{group}\2", recorded.url)
        return replace(recorded, url=url, sent=json.dumps(body).encode())
