"""Recorded operations that nbtoolkit does not call, and allowed differences, with their reasons."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .operation_names import ExchangeKind


@dataclass(frozen=True)
class AllowedDifference:
    """An allowed difference between a recording and the double."""

    operation: str
    """A pattern for the whole operation."""
    place: str
    """A pattern for the whole difference."""
    why: str


ALLOWED_DIFFERENCES: tuple[AllowedDifference, ...] = (
    AllowedDifference(
        r".* Microsoft\.Resources/deployments.*",
        r"body(\.value\[\])?\.location: only recorded",
        "only deployments of a subscription have a location; they are replayed for a group",
    ),
    AllowedDifference(
        r"GET Microsoft\.Storage/locations/asyncoperations",
        r"body\.properties\.(secondaryLocation|statusOfSecondary|secondaryEndpoints): only recorded",
        "the recorded account was geo-redundant; ours are not, and the double has no second region",
    ),
    AllowedDifference(
        r"GET app",
        r"header .*",
        "what a container answers is its own: only status and body's type count",
    ),
    AllowedDifference(
        r"GET Microsoft\.App/containerApps",
        r"body\.properties\.configuration\.ingress\.traffic\[\]\.(revisionName|label): only recorded",
        "recorded with labels as revision mode, a preview that neither we nor the double have",
    ),
)


def allowed_difference(operation: str, difference: str) -> AllowedDifference | None:
    """Return the entry that allows a difference, or None."""
    for entry in ALLOWED_DIFFERENCES:
        if re.fullmatch(entry.operation, operation) and re.fullmatch(entry.place, difference, re.DOTALL):
            return entry
    return None


NOT_CALLED: tuple[tuple[str, str], ...] = (
    (r".* Microsoft\.Insights/.*", "diagnostic settings are not ours to set"),
    (r".* Microsoft\.ManagedIdentity/.*", "we make no identities"),
    (r".* Microsoft\.ContainerRegistry/.*", "we build no images"),
    (r".* acrtaskprodeus2063\.blob\..*", "the store of a registry's build"),
    (r".* Microsoft\.Resources/deploymentStacks.*", "we use plain deployments"),
    (r".* Microsoft\.Resources/locations/deploymentStack.*", "we use plain deployments"),
    (r"POST Microsoft\.Resources/calculateTemplateHash .*", "we compare no hashes with ARM's"),
    (r".* Microsoft\.Authorization/role(Assignments|Definitions).*", "we ask for permissions by action"),
    (r".* Microsoft\.App/connectedEnvironments.*", "environments on a cluster of one's own"),
    (r"GET http app .*", "we never leave TLS"),
    (r".* of a snapshot .*", "we make no snapshots of shares"),
    (r"PUT share snapshot .*", "we make no snapshots of shares"),
    (r"DELETE share → 409 ShareHasSnapshots", "we make no snapshots of shares"),
    (r"(GET|PUT) share (acl|filepermission) .*", "access is by key or role, not by policies and ACLs"),
    (r"PUT file with a permission of its own .*", "access is by key or role, not by policies and ACLs"),
    (r"PUT file (copy|range from URL) .*", "a copy on the server's side; we rename"),
)
"""Patterns of recorded kinds that nbtoolkit does not call, and why."""


def reason_not_called(kind: ExchangeKind) -> str:
    """Return why a recorded kind is not compared, "" if it is."""
    return next((why for pattern, why in NOT_CALLED if re.fullmatch(pattern, str(kind))), "")


ALLOWED_TYPE_PROBLEMS: tuple[tuple[str, str], ...] = (
    (
        r".* Microsoft\.Resources/deployments\S* \S+ answered: properties\.parameters\.\w+\.type: .*",
        "recorded: ARM echoes each parameter with its type",
    ),
    (
        r".* Microsoft\.Resources/deployments\S* \S+ answered: "
        r"properties\.providers\[\d+\]\.resourceTypes\[\d+\]\.locations\[\d+\]: wanted a text, found null",
        "recorded: types that have no location show null",
    ),
    (
        r"GET operationresults \S+ answered: properties\.correlationId: .*",
        "recorded: a what-if carries its correlation id",
    ),
    (
        r"POST Microsoft\.Resources/deployments/whatIf \S+ sent: "
        r"location: ScopedDeploymentWhatIf requires it",
        "one type stands for all scopes; for a group location is optional (REST reference, What If)",
    ),
    (
        r"POST Microsoft\.Storage/storageAccounts/listKeys \S+ answered: "
        r'keys\[\d\]\.permissions: wanted one of Read, Full, found "FULL"',
        "recorded: the permissions of a key come in capitals",
    ),
)
"""Patterns of type problems that recordings contradict, and why."""


def reason_allowed(problem: str) -> str:
    """Return why a type problem is allowed, "" if it is not."""
    return next((why for pattern, why in ALLOWED_TYPE_PROBLEMS if re.fullmatch(pattern, problem)), "")
