"""Revisions and replicas as resources."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .app_versions import headers, refusal, shaped
from .http import Response
from .resource_kind import Call, ResourceKind
from .revisions import replica_body

if TYPE_CHECKING:
    from .app_platform import Platform


class Revisions(ResourceKind):
    """Revisions: read, restart, activate, deactivate."""

    type = "Microsoft.App/containerApps/revisions"

    def __init__(self, platform: Platform) -> None:
        self.platform = platform

    def get(self, call: Call) -> Response:
        revision = self.platform.require_app(call.id.parent).revision(call.id.name)
        return Response.of(shaped(revision.body(), call.version), headers=headers())

    def list(self, call: Call) -> Response:
        app = self.platform.require_app(call.id.owner)
        return Response.of(
            {"value": [shaped(revision.body(), call.version) for revision in app.revisions]},
            headers=headers(),
        )

    def action(self, call: Call, name: str) -> Response:
        app = self.platform.require_app(call.id.parent)
        revision = app.revision(call.id.name)
        app.refuse_while_busy()
        with self.platform.lock:
            if name.lower() == "restart":
                if not revision.active or app.stopped:
                    raise refusal(
                        400,
                        "ContainerAppRevisionNotActive",
                        f"Revision '{revision.name}' is not active and cannot be restarted.",
                    )
                revision.restart()
                return Response.of("Restart succeeded", headers=headers())
            if name.lower() == "activate":
                revision.active = True
                revision.reset_activation()
                return Response(200, headers())
            if name.lower() == "deactivate":
                revision.active = False
                return Response(200, headers())
        return super().action(call, name)


class Replicas(ResourceKind):
    """Replicas of a revision, read only."""

    type = "Microsoft.App/containerApps/revisions/replicas"

    def __init__(self, platform: Platform) -> None:
        self.platform = platform

    def get(self, call: Call) -> Response:
        revision = self.platform.require_app(call.id.parent.parent).revision(call.id.names[1])
        replica = revision.replica(call.id.name)
        if replica is None:
            raise refusal(
                404,
                "ContainerAppReplicaNotFound",
                f"Replica '{call.id.name}' of revision '{revision.name}' was not found.",
            )
        return Response.of(shaped(replica_body(replica), call.version), headers=headers())

    def list(self, call: Call) -> Response:
        revision = self.platform.require_app(call.id.parent.parent).revision(call.id.names[1])
        listed = [replica for replica in revision.replicas if not replica.gone]
        return Response.of(
            {"value": [shaped(replica_body(one), call.version) for one in listed]}, headers=headers()
        )
