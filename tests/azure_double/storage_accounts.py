"""Storage accounts: globally unique names, keys, and access rules of the data plane."""

from __future__ import annotations

import re
from typing import Any

from .arm import Arm
from .clock import Clock
from .http import Refused, Response
from .resource_kind import Call, ResourceKind
from .share_auth import Account

TYPE = "Microsoft.Storage/storageAccounts"
NAME = re.compile(r"[a-z0-9]{3,24}")
SECONDS = 18
RULES = (
    "Storage account name must be between 3 and 24 characters in length and use numbers and lower-case "
    "letters only."
)
_HOSTS = {"dfs": "dfs", "web": "z13.web", "blob": "blob", "queue": "queue", "table": "table", "file": "file"}


class StorageAccounts(ResourceKind):
    """Storage accounts; `taken` has names in use in other subscriptions."""

    type = TYPE

    def __init__(self, arm: Arm) -> None:
        self._arm = arm
        self.taken: set[str] = set()
        arm.register(TYPE, self)
        arm.route(
            "POST", "/subscriptions/[^/]+/providers/Microsoft.Storage/checkNameAvailability", self._check
        )

    def preflight(self, call: Call) -> None:
        name = call.id.name
        if not NAME.fullmatch(name):
            raise Refused(400, "AccountNameInvalid", f"{name} is not a valid storage account name. {RULES}")
        for needed in ("sku", "kind"):
            if not call.body.get(needed):
                raise Refused(
                    400, "InvalidRequestContent", f"Required property '{needed}' not found in JSON."
                )
        if self._arm.get(call.id) is None and self._owner(name):
            raise Refused(
                409, "StorageAccountAlreadyTaken", f"The storage account named {name} is already taken."
            )

    def put(self, call: Call) -> Response:
        self.preflight(call)
        old = self._arm.get(call.id)
        body = _body(call, old)
        if old is not None:
            self._keep(call, body)
            return Response.of(body)
        body["properties"]["provisioningState"] = "Creating"
        self._arm.save(call.id, body)

        def work() -> dict[str, Any]:
            body["properties"]["provisioningState"] = "Succeeded"
            self._keep(call, body)
            return body

        call.operation = self._arm.operations.begin(work, seconds=SECONDS)
        place = f"/subscriptions/{call.id.subscription}/providers/Microsoft.Storage/locations/{call.location}"
        url = self._arm.operations.result_url(
            call.operation, f"{place}/asyncoperations", call.version, extra="&monitor=true"
        )
        return Response(202, {"location": url, "content-type": "text/plain; charset=utf-8"})

    def patch(self, call: Call) -> Response:
        body = self._arm.require(call.id)
        if "tags" in call.body:
            body["tags"] = call.body["tags"] or {}
        if "sku" in call.body:
            body["sku"] = _sku(call.body["sku"])
        body["properties"] |= {
            key: value for key, value in (call.body.get("properties") or {}).items() if value is not None
        }
        self._keep(call, body)
        return Response.of(body)

    def delete(self, call: Call) -> Response:
        there = self._arm.forget(call.id)
        if there:
            self._arm.double.files.remove_account(call.id.name)
        return Response(200 if there else 204)

    def post_listkeys(self, call: Call) -> Response:
        return Response.of({"keys": self._keys(call)})

    def post_regeneratekey(self, call: Call) -> Response:
        name = call.body.get("keyName")
        if name not in ("key1", "key2"):
            raise Refused(400, "InvalidKeyName", f"The key name '{name}' is invalid.")
        self._account(call).rotate(int(name[-1]) - 1)
        self._arm.require(call.id)["properties"]["keyCreationTime"][name] = Clock.stamp()
        return self.post_listkeys(call)

    def _keys(self, call: Call) -> list[dict[str, str]]:
        created = self._arm.require(call.id)["properties"]["keyCreationTime"]
        return [
            {
                "creationTime": created[f"key{number}"],
                "keyName": f"key{number}",
                "value": value,
                "permissions": "FULL",
            }
            for number, value in enumerate(self._account(call).keys, 1)
        ]

    def _account(self, call: Call) -> Account:
        return self._arm.double.files.create_account(call.id.name)

    def _keep(self, call: Call, body: dict[str, Any]) -> None:
        """Store the body and apply its access rules to the data plane."""
        self._arm.save(call.id, body)
        account, properties = self._account(call), body["properties"]
        account.shared_key_access = properties.get("allowSharedKeyAccess") is not False
        account.firewall = (
            properties["networkAcls"]["defaultAction"] == "Deny"
            or properties.get("publicNetworkAccess") == "Disabled"
        )

    def _owner(self, name: str) -> bool:
        end = f"/storageaccounts/{name.lower()}"
        return name in self.taken or any(key.endswith(end) for key in self._arm.resources)

    def _check(self, call: Call) -> Response:
        name = str(call.body.get("name", ""))
        if not NAME.fullmatch(name):
            message = f"{name} is not a valid storage account name. {RULES}"
            return Response.of({"nameAvailable": False, "reason": "AccountNameInvalid", "message": message})
        if self._owner(name):
            message = f"The storage account named {name} is already taken."
            return Response.of({"nameAvailable": False, "reason": "AlreadyExists", "message": message})
        return Response.of({"nameAvailable": True})


def _sku(asked: dict[str, Any]) -> dict[str, Any]:
    return {"name": asked["name"], "tier": asked["name"].split("_")[0]}


def _body(call: Call, old: dict[str, Any] | None) -> dict[str, Any]:
    name, now, asked = call.id.name, Clock.stamp(), call.body.get("properties") or {}
    service = {"keyType": "Account", "enabled": True, "lastEnabledTime": now}
    defaults: dict[str, Any] = {
        "keyCreationTime": {"key1": now, "key2": now},
        "allowCrossTenantReplication": False,
        "privateEndpointConnections": [],
        "minimumTlsVersion": "TLS1_2",
        "allowBlobPublicAccess": False,
        "networkAcls": {
            "ipv6Rules": [],
            "bypass": "AzureServices",
            "virtualNetworkRules": [],
            "ipRules": [],
            "defaultAction": "Allow",
        },
        "supportsHttpsTrafficOnly": True,
        "encryption": {"services": {"file": service, "blob": service}, "keySource": "Microsoft.Storage"},
        "accessTier": "Hot",
        "provisioningState": "Succeeded",
        "creationTime": now,
        "primaryEndpoints": {key: f"https://{name}.{host}.core.windows.net/" for key, host in _HOSTS.items()},
        "primaryLocation": call.location,
        "statusOfPrimary": "available",
    }
    properties = {**defaults, **(old["properties"] if old else {})}
    for key, value in asked.items():
        if key == "networkAcls" and value:
            properties[key] = {**defaults[key], **value}
        elif key != "encryption" and value is not None:
            properties[key] = value
    return {
        "sku": _sku(call.body["sku"]),
        "kind": call.body["kind"],
        "id": str(call.id),
        "name": name,
        "type": TYPE,
        "location": call.location,
        "tags": call.body.get("tags") or {},
        "properties": properties,
    }
