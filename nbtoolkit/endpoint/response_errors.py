"""Turn error responses of a server or its ingress into errors with a next step."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nbtoolkit.errors import RequestRefused

if TYPE_CHECKING:
    import httpx

HELD = (
    "the ingress holds the request until a server is ready; a sleeping app takes minutes to start one, and "
    "it is billed from then on"
)
_TO_START = "a stopped app is started by deploy(), rollback() or scale(); status() shows its state"


class IngressError(NamedTuple):
    """Why an ingress answered in place of a server; ``lasting`` if waiting does not help."""

    reason: str
    next_step: str
    lasting: bool = False


def parse_ingress_error(response: httpx.Response) -> IngressError | None:
    """Return the error of an ingress, None if a server answered."""
    status, text = response.status_code, response.text[:200].strip()
    if text.startswith("{"):
        return None  # the server answers everything as JSON
    if status == 504:
        return IngressError(
            f"no server was ready while the ingress held the request to its limit (504 {text})",
            "wait longer: endpoint.wait(); the target's status() shows the progress of the startup",
        )
    if status == 403 and "access denied" in text.lower():
        return IngressError(
            f"the app's IP rules deny this machine (403 {text})",
            "add this machine's address to allowed_ip_ranges and provision() again",
            lasting=True,
        )
    if status in (403, 404) and "container app" in text.lower():
        reason = f"the app is stopped or does not exist ({status} {text})"
        return IngressError(reason, _TO_START, lasting=True)
    if status in (502, 503):
        return IngressError(f"the ingress answered {status}: {text}", "call endpoint.wait(), then ask again")
    return None


def request_refused(response: httpx.Response) -> RequestRefused:
    """Return the error for an error response."""
    try:
        error = response.json()["error"]
        message, code = error["message"], error.get("code")
    except (ValueError, KeyError, TypeError):  # an ingress or a proxy answered, not the server
        message, code = response.text[:500] or response.reason_phrase, None
    ingress, after = parse_ingress_error(response), response.headers.get("Retry-After")
    request = f"{response.request.method} {response.request.url.path}"
    return RequestRefused(
        f"{request} was answered {response.status_code}: {message}",
        next_step=ingress.next_step if ingress else _next_step(response.status_code, after),
        status=response.status_code,
        code=code,
        retry_after=float(after) if after and after.isdigit() else None,
    )


def _next_step(status: int, after: str | None) -> str:
    steps = {
        401: "use the key of this endpoint's target: target.endpoint() has it",
        403: "use the key of this endpoint's target: target.endpoint() has it",
        404: "see endpoint.models() for the names that are served",
        429: f"too many requests are waiting; ask again in {after or 'a few'} s",
        503: f"call endpoint.wait(), or ask again in {after or 'a few'} s",
    }
    if status in steps:
        return steps[status]
    if status < 500:
        return "correct the request as the message says"
    return "see the target's logs() for the cause, then ask again"
