"""ARM's validation of a template's resources before a deployment."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from typing import Any

from .arm import Arm
from .http import Refused
from .resource_kind import Call
from .templates import Evaluated, PlannedResource


def preflight(arm: Arm, evaluated: Evaluated, policies: Iterable[Callable[[Call], None]]) -> None:
    """Refuse a deployment with all that its resources may not or cannot be, in one error."""
    errors: list[dict[str, Any]] = []
    forbidden: list[str] = []
    for planned in evaluated.planned:
        call = Call(arm, "PUT", planned.id, planned.body, {"api-version": planned.version})
        try:
            arm.check(call)
            for policy in policies:
                policy(call)
        except Refused as refused:
            if refused.code == "AuthorizationFailed":
                forbidden.append(_forbidden(planned, refused))
            errors.append({**refused.error, "target": str(planned.id)})
    if forbidden:
        listed = ":".join(f"'{sentence}'" for sentence in forbidden)
        raise Refused(403, "InvalidTemplateDeployment", f"Deployment failed with multiple errors: {listed}")
    if errors:
        raise Refused(
            400,
            "InvalidTemplateDeployment",
            "The template deployment is not valid according to the validation procedure. The tracking id is "
            f"'{uuid.uuid4()}'. See inner errors for details.",
            details=errors,
        )


def _forbidden(planned: PlannedResource, refused: Refused) -> str:
    may_not = refused.message.split(" does not have authorization")[0]
    return (
        f"Authorization failed for template resource '{'/'.join(planned.id.names)}' of type "
        f"'{planned.id.type}'. {may_not} does not have permission to perform action "
        f"'{planned.id.type}/write' at scope '{planned.id}'."
    )
