"""File services and shares as ARM manages them; a share's content is the data plane's."""

from __future__ import annotations

import re
import secrets
from typing import Any

from .arm import Arm
from .http import Refused, Response
from .resource_kind import Call, ResourceKind

SERVICES = "Microsoft.Storage/storageAccounts/fileServices"
SHARES = f"{SERVICES}/shares"
NAME = re.compile(r"(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
MOST_WITHOUT_LARGE = 5120
MOST = 102400


def require_account(call: Call) -> dict[str, Any]:
    """The account above, or ARM's refusal of a nested resource."""
    account = call.arm.get(call.id.top)
    if account is None or account["properties"]["provisioningState"] != "Succeeded":
        raise Refused(
            404,
            "ParentResourceNotFound",
            "Failed to perform 'write' on resource(s) of type "
            f"'{'/'.join(call.id.types)}', because the parent resource '{call.id.parent}' could not be "
            "found.",
        )
    return account


class FileServices(ResourceKind):
    """The file service of an account, named default; it always exists."""

    type = SERVICES

    def __init__(self, arm: Arm) -> None:
        arm.register(SERVICES, self)

    def get(self, call: Call) -> Response:
        require_account(call)
        return Response.of(call.arm.get(call.id) or _service(call, {}))

    def put(self, call: Call) -> Response:
        require_account(call)
        if call.id.name.lower() != "default":
            raise Refused(400, "InvalidResourceName", "The name of a file service is 'default'.")
        body = _service(call, call.body.get("properties") or {})
        return Response.of(call.arm.save(call.id, body))


class Shares(ResourceKind):
    """Shares; PUT creates the folder of the data plane."""

    type = SHARES

    def __init__(self, arm: Arm) -> None:
        arm.register(SHARES, self)

    def put(self, call: Call) -> Response:
        account = require_account(call)
        asked = {
            key: value for key, value in (call.body.get("properties") or {}).items() if value is not None
        }
        if not NAME.fullmatch(call.id.name):
            raise Refused(
                400,
                "InvalidResourceName",
                f"The specified resource name '{call.id.name}' contains invalid characters.",
            )
        large = account["properties"].get("largeFileSharesState") == "Enabled"
        most = MOST if large else MOST_WITHOUT_LARGE
        quota = int(asked.get("shareQuota", most))
        if not 1 <= quota <= most:
            raise Refused(
                400,
                "InvalidHeaderValue",
                "The value for one of the HTTP headers is not in the correct format.",
            )
        old = call.arm.get(call.id)
        etag = f'"0x{secrets.token_hex(8).upper()}"'
        body = {
            "id": str(call.id),
            "name": call.id.name,
            "type": SHARES,
            "etag": etag,
            "properties": {**(old["properties"] if old else {}), **asked, "shareQuota": quota},
        }
        call.arm.save(call.id, body)
        share = call.double.files.create_share(call.id.names[0], call.id.name, quota)
        share.quota = quota
        shown = {key: body[key] for key in ("id", "name", "type", "properties")}
        shown["properties"] = {**asked, "shareQuota": quota}
        return Response.of(shown, 200 if old else 201, {"etag": etag})

    def get(self, call: Call) -> Response:
        require_account(call)
        if call.double.files.share(call.id.names[0], call.id.name) is None:
            raise Refused(404, "ShareNotFound", "The specified share does not exist.")
        body = call.arm.get(call.id) or self._found(call)
        return Response.of(body, headers={"etag": body["etag"]})

    def patch(self, call: Call) -> Response:
        return self.put(call)

    def delete(self, call: Call) -> Response:
        there = call.arm.forget(call.id)
        there = call.double.files.remove_share(call.id.names[0], call.id.name) or there
        return Response(200 if there else 204)

    def list(self, call: Call) -> Response:
        require_account(call)
        names = call.double.files.shares(call.id.names[0])
        bodies = [call.arm.get(call.id.named(name)) or self._found(call, name) for name in names]
        return Response.of({"value": bodies})

    @staticmethod
    def _found(call: Call, name: str | None = None) -> dict[str, Any]:
        """Return the body of a share that the data plane created."""
        id = call.id.named(name) if name else call.id
        share = call.double.files.share(id.names[0], id.name)
        properties = {"shareQuota": share.quota if share else MOST_WITHOUT_LARGE, "enabledProtocols": "SMB"}
        return {"id": str(id), "name": id.name, "type": SHARES, "etag": '"0x0"', "properties": properties}


def _service(call: Call, asked: dict[str, Any]) -> dict[str, Any]:
    defaults = {"cors": {"corsRules": []}, "shareDeleteRetentionPolicy": {"enabled": True, "days": 7}}
    properties = {**defaults, **{key: value for key, value in asked.items() if value is not None}}
    return {
        "sku": {"name": "Standard_LRS", "tier": "Standard"},
        "id": str(call.id),
        "name": "default",
        "type": SERVICES,
        "properties": properties,
    }
