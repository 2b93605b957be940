"""What stands before a server and answers in its place: as long as none is ready, or for good."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import httpx

HELD = (
    "the request is held until a server is ready; an app that sleeps takes minutes to start one, and it is "
    "billed from then on"
)
_TO_START = "a stopped app is started by deploy(), rollback() or scale(); status() tells how it stands"


class IngressError(NamedTuple):
    """Why no server answers, what to do, and whether waiting is of no use."""

    reason: str
    next_step: str
    lasting: bool = False


def parse_ingress_error(response: httpx.Response) -> IngressError | None:
    """Return what a gateway says, None where a server answered."""
    status, text = response.status_code, response.text[:200].strip()
    if text.startswith("{"):
        return None  # our server says everything as JSON
    if status == 504:
        return IngressError(
            f"no server was ready while the gateway held the request to its limit (504 {text})",
            "wait longer: endpoint.wait(); the target's status() tells how far the start is",
        )
    if status == 403 and "access denied" in text.lower():
        return IngressError(
            f"the app's address rules keep this machine out (403 {text})",
            "add this machine's address to allowed_ip_ranges and provision() again",
            lasting=True,
        )
    if status in (403, 404) and "container app" in text.lower():
        return IngressError(
            f"the app is stopped, or there is none ({status} {text})", _TO_START, lasting=True
        )
    if status in (502, 503):
        return IngressError(f"the gateway answered {status}: {text}", "call endpoint.wait(), then ask again")
    return None
