"""ARM's errors of a failed deployment: nested errors, often as JSON in a text."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

ADVICE = (
    "At least one resource deployment operation failed. Please list deployment operations for details. "
    "Please see https://aka.ms/arm-deployment-operations for usage details."
)
ENDED = "The resource operation completed with terminal provisioning state 'Failed'."


def status_name(status: int) -> str:
    """409 → Conflict."""
    return HTTPStatus(status).phrase.replace(" ", "")


def refused(error: dict[str, Any]) -> dict[str, Any]:
    """Return an operation's message if the resource provider refused the request."""
    return {"error": error}


def failed(error: dict[str, Any]) -> dict[str, Any]:
    """Return an operation's message if the accepted work failed."""
    return {
        "status": "Failed",
        "error": {"code": "ResourceDeploymentFailure", "message": ENDED, "details": [error]},
    }


def deployment(failures: list[tuple[str, dict[str, Any]]], *, as_text: bool, target: str) -> dict[str, Any]:
    """A deployment's error; `failures` are its operations' status names and messages."""
    if as_text:
        details = [
            {"code": name, "message": json.dumps(message, indent=2).replace("\n", "\r\n")}
            for name, message in failures
        ]
        return {"code": "DeploymentFailed", "message": ADVICE, "details": details}
    details = [message["error"] for _, message in failures]
    return {"code": "DeploymentFailed", "target": target, "message": ADVICE, "details": details}


def outputs(error: dict[str, Any]) -> dict[str, Any]:
    """Return a deployment's error if an output cannot be evaluated."""
    return {
        "code": "DeploymentOutputEvaluationFailed",
        "message": "Unable to evaluate template outputs. Please see error details and deployment operations. "
        "Please see https://aka.ms/arm-common-errors for usage details.",
        "details": [error],
    }
