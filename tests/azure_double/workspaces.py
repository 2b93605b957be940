"""Log Analytics workspaces: PUT responds before they are ready; two actions return their keys."""

from __future__ import annotations

import base64
import datetime
import re
import secrets
import uuid
from typing import Any

from .arm import Arm
from .clock import Clock
from .http import Refused, Response
from .resource_kind import Call, ResourceKind

TYPE = "Microsoft.OperationalInsights/workspaces"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{2,61}[A-Za-z0-9]")
VERSIONS = {
    "api-supported-versions": "2015-03-20, 2020-08-01, 2020-10-01, 2021-06-01, 2022-10-01, 2023-09-01, "
    "2025-02-01, 2025-07-01"
}
SECONDS = 12
FIRST_WITH_OPERATION = "2025-02-01"
"""From this version on a PUT names an operation; before, the client polls the workspace."""


class Workspaces(ResourceKind):
    """The workspaces."""

    type = TYPE

    def __init__(self, arm: Arm) -> None:
        self._arm = arm
        self._keys: dict[str, tuple[str, str]] = {}
        arm.register(TYPE, self)

    def put(self, call: Call) -> Response:
        if not NAME.fullmatch(call.id.name):
            raise Refused(
                400,
                "InvalidResourceName",
                f"Resource name '{call.id.name}' is invalid. The name must be 4 to 63 "
                "letters, digits and hyphens.",
            )
        old = self._arm.get(call.id)
        body = self._arm.save(call.id, _body(call, old))
        self._keys.setdefault(call.id.key, (_key(), _key()))
        if old:
            return Response.of(body, headers=VERSIONS)

        def work() -> dict[str, Any]:
            body["properties"]["provisioningState"] = "Succeeded"
            return body

        call.operation = self._arm.operations.begin(work, seconds=SECONDS)
        headers = {
            **VERSIONS,
            "location": f"https://management.azure.com{call.id}?api-version={call.version}",
        }
        if call.version >= FIRST_WITH_OPERATION:
            headers["azure-asyncoperation"] = self._status_url(call, call.location)
        return Response.of(body, 201, headers)

    def patch(self, call: Call) -> Response:
        body = self._arm.require(call.id)
        body["tags"] = call.body.get("tags", body.get("tags", {}))
        body["properties"] |= call.body.get("properties") or {}
        return Response.of(body, headers=VERSIONS)

    def get(self, call: Call) -> Response:
        response = super().get(call)
        response.headers.update(VERSIONS)
        return response

    def delete(self, call: Call) -> Response:
        if not self._arm.get(call.id):
            return Response(204)
        location = self._arm.require(call.id)["location"]

        def work() -> None:
            self._arm.forget(call.id)
            self._keys.pop(call.id.key, None)

        operation = call.operation = self._arm.operations.begin(work, seconds=5)
        status = self._status_url(call, location)
        result = self._arm.operations.result_url(operation, f"{call.id}/operationresults", call.version)
        wait = {"retry-after": self._arm.double.clock.retry_after(30)}
        return Response(202, {**VERSIONS, **wait, "azure-asyncoperation": status, "location": result})

    def post_sharedkeys(self, call: Call) -> Response:
        primary, secondary = self._keys[call.id.key]
        return Response.of({"primarySharedKey": primary, "secondarySharedKey": secondary}, headers=VERSIONS)

    def post_listkeys(self, call: Call) -> Response:
        """POST of a template's listKeys()."""
        return self.post_sharedkeys(call)

    def _status_url(self, call: Call, location: str) -> str:
        namespace = f"/subscriptions/{call.id.subscription}/providers/Microsoft.OperationalInsights"
        path = f"{namespace}/locations/{location}/operationstatuses"
        assert call.operation is not None
        return self._arm.operations.status_url(call.operation, path, "2015-11-01-preview", detailed=True)


def _key() -> str:
    return base64.b64encode(secrets.token_bytes(64)).decode()


def _body(call: Call, old: dict[str, Any] | None) -> dict[str, Any]:
    now, asked = Clock.stamp(), call.body.get("properties") or {}
    tomorrow = (Clock.now() + datetime.timedelta(days=1)).strftime("%Y-%m-%dT11:00:00Z")
    properties: dict[str, Any] = {
        "customerId": str(uuid.uuid4()),
        "provisioningState": "Creating",
        "sku": {"name": "PerGB2018", "lastSkuUpdate": now},
        "retentionInDays": 30,
        "features": {"legacy": 0, "searchVersion": 1, "enableLogAccessUsingOnlyResourcePermissions": True},
        "workspaceCapping": {
            "dailyQuotaGb": -1.0,
            "quotaNextResetTime": tomorrow,
            "dataIngestionStatus": "RespectQuota",
        },
        "publicNetworkAccessForIngestion": "Enabled",
        "publicNetworkAccessForQuery": "Enabled",
        "createdDate": now,
        "modifiedDate": now,
    }
    properties |= {**old["properties"], "modifiedDate": now} if old else {}
    for key, value in asked.items():
        if value is not None:
            properties[key] = {**properties[key], **value} if isinstance(properties.get(key), dict) else value
    return {
        "properties": properties,
        "location": call.location,
        "tags": call.body.get("tags") or {},
        "id": str(call.id),
        "name": call.id.name,
        "type": TYPE,
        "etag": f'"{secrets.token_hex(16)}"',
    }
