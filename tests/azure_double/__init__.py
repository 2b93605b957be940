"""Azure on loopback for tests, reached through the standard environment variables."""

from .arm import Arm
from .double import SUBSCRIPTION, AzureDouble, LoggedRequest
from .http import Refused, Request, Response
from .resource_ids import ResourceId
from .resource_kind import Call, ResourceKind

__all__ = [
    "SUBSCRIPTION",
    "Arm",
    "AzureDouble",
    "Call",
    "LoggedRequest",
    "Refused",
    "Request",
    "ResourceId",
    "ResourceKind",
    "Response",
]
