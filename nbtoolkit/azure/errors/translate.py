"""The Azure SDK's exceptions as errors that name cause and next step."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from nbtoolkit.azure.errors import catalog as known_causes
from nbtoolkit.azure.errors.arm_error import Cause, explain
from nbtoolkit.errors import AzureFailed, NotSignedIn, QuotaShort

if TYPE_CHECKING:
    from azure.core.exceptions import AzureError, HttpResponseError

T = TypeVar("T")


@contextmanager
def translate_errors(what: str) -> Generator[None]:
    """Turn what the SDK raises inside into :class:`AzureFailed` or one of its kinds.

    ``what`` completes "Azure could not ...": ``read the app aiacaapp``. The error has ``status`` (None where
    no answer came), ``code``, ``request_id`` and ``causes``.
    """
    from azure.core.exceptions import AzureError

    try:
        yield
    except AzureError as error:
        raise failure(what, error) from error


def or_none(what: str, ask: Callable[[], T]) -> T | None:
    """Return what ``ask`` returns, None where Azure has no such thing; raises like :func:`asking`."""
    from azure.core.exceptions import ResourceNotFoundError

    with translate_errors(what):
        try:
            return ask()
        except ResourceNotFoundError:
            return None


def failure(what: str, error: AzureError) -> AzureFailed:
    """Return the error for an exception of the SDK."""
    from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, IncompleteReadError

    if not isinstance(error, HttpResponseError) or isinstance(error, IncompleteReadError):
        return _unreached(what, error)
    answer: Any = error.response
    if answer is None and isinstance(error, ClientAuthenticationError):
        return _not_signed_in(what, error)  # from azure-identity: no token, so no request
    causes = explain(body(error))
    first = causes[0]
    status = error.status_code
    kind = QuotaShort if any(known_causes.is_quota(cause.code) for cause in causes) else AzureFailed
    if status == 401:
        kind = NotSignedIn
    elif status == 429 and not first.known:
        first = explain({"code": "TooManyRequests", "message": first.said})[0]
    text = "; ".join(str(cause) for cause in [first, *causes[1:]])
    return kind(
        f"Azure could not {what}: {text or error.reason}",
        next_step=first.next_step,
        status=status,
        code=first.code,
        request_id=_request_id(answer),
        causes=causes,
    )


def body(error: HttpResponseError) -> Mapping[str, Any] | str:
    """Return the error in an answer's body, or the SDK's message where the body holds none."""
    try:
        found: Any = json.loads(error.response.text()) if error.response is not None else None
    except Exception:  # noqa: BLE001  a body that was streamed, cut or is no JSON says nothing more
        found = None
    if isinstance(found, Mapping) and found:
        return found
    own: Any = getattr(error, "error", None)
    message = str(getattr(own, "message", "") or error.message or error)
    code = getattr(own, "code", None) or getattr(error, "error_code", None)
    return {"code": str(code), "message": message} if code else message


def _unreached(what: str, error: AzureError) -> AzureFailed:
    said = " ".join(str(error.message or error).split())[:300]
    return AzureFailed(
        f"Azure could not {what}: no complete answer came ({said}).",
        next_step="check the network, the proxy (HTTPS_PROXY) and its certificate; then run the step again",
        code=type(error).__name__,
        causes=[Cause(type(error).__name__, said, None, "check the network")],
    )


def _not_signed_in(what: str, error: AzureError) -> NotSignedIn:
    said = str(error.message or error).strip()
    return NotSignedIn(
        f"Azure could not {what}: nobody is signed in. {said[:1500]}",
        next_step="sign in: az login in a terminal, the Sign-in button of a form, or AZURE_CLIENT_ID, "
        "AZURE_TENANT_ID and AZURE_CLIENT_SECRET in the environment",
        code="NotSignedIn",
        causes=[],
    )


def _request_id(answer: Any) -> str | None:
    headers: Mapping[str, str] = getattr(answer, "headers", None) or {}
    return headers.get("x-ms-request-id") or headers.get("x-ms-correlation-request-id")
