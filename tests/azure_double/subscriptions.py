"""Subscriptions, their regions, and the tenant."""

from __future__ import annotations

from typing import Any

from . import regions
from .arm import Arm
from .http import Refused, Response
from .resource_kind import Call
from .tokens import TENANT


class Subscriptions:
    """The subscriptions of the signed-in client; tests add entries or set a state to Disabled."""

    def __init__(self, arm: Arm) -> None:
        self.states: dict[str, str] = {arm.double.subscription: "Enabled"}
        """State by id."""
        self.names: dict[str, str] = {}
        arm.guards.append(self._guard)
        arm.route("GET", "/subscriptions", self._list)
        arm.route("GET", "/subscriptions/[^/]+", lambda call: Response.of(self._body(call.id.subscription)))
        arm.route("GET", "/subscriptions/[^/]+/locations", self._locations)
        arm.route("GET", "/tenants", self._tenants)

    def _guard(self, call: Call) -> None:
        id = call.id.subscription
        if not id:
            return
        state = next((state for name, state in self.states.items() if name.lower() == id.lower()), None)
        if state is None:
            raise Refused(404, "SubscriptionNotFound", f"The subscription '{id}' could not be found.")
        if state == "Disabled" and call.method != "GET":
            raise Refused(
                409,
                "ReadOnlyDisabledSubscription",
                f"The subscription '{id}' is disabled and therefore marked as read only. You cannot perform "
                "any write actions on this subscription until it is re-enabled.",
            )

    def _list(self, call: Call) -> Response:
        value = [self._body(id) for id in self.states]
        return Response.of({"value": value, "count": {"type": "Total", "value": len(value)}})

    def _body(self, id: str) -> dict[str, Any]:
        return {
            "id": f"/subscriptions/{id}",
            "authorizationSource": "RoleBased",
            "managedByTenants": [],
            "subscriptionId": id,
            "tenantId": TENANT,
            "displayName": self.names.get(id, "Double"),
            "state": next(state for name, state in self.states.items() if name.lower() == id.lower()),
            "subscriptionPolicies": {
                "locationPlacementId": "Public_2014-09-01",
                "quotaId": "PayAsYouGo_2014-09-01",
                "spendingLimit": "Off",
            },
        }

    def _locations(self, call: Call) -> Response:
        return Response.of({"value": regions.listing(call.id.subscription)})

    def _tenants(self, call: Call) -> Response:
        tenant = {
            "id": f"/tenants/{TENANT}",
            "tenantId": TENANT,
            "countryCode": "SE",
            "displayName": "Contoso",
            "domains": ["contoso.example"],
            "tenantCategory": "Home",
            "defaultDomain": "contoso.example",
            "tenantType": "AAD",
        }
        return Response.of({"value": [tenant]})
