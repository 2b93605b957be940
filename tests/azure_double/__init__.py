"""Azure on loopback for tests, as unkind as the real one; reached through the standard environment."""

from .arm import Arm, Call, Kind
from .double import SUBSCRIPTION, AzureDouble, Seen
from .http import Refused, Request, Response
from .resource_ids import ResourceId

__all__ = [
    "SUBSCRIPTION",
    "Arm",
    "AzureDouble",
    "Call",
    "Kind",
    "Refused",
    "Request",
    "ResourceId",
    "Response",
    "Seen",
]
