"""Translate exceptions of the Azure SDK into errors with a cause and a next step."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from nbtoolkit.azure.errors.arm_error import Cause, explain
from nbtoolkit.azure.errors.catalog import is_quota_exceeded
from nbtoolkit.errors import AzureFailed, NotSignedIn, QuotaShort

if TYPE_CHECKING:
    from azure.core.exceptions import AzureError, HttpResponseError

T = TypeVar("T")


@contextmanager
def translate_errors(action: str) -> Generator[None]:
    """Raise :class:`AzureFailed` or a subclass for an exception of the SDK.

    ``action`` completes "Azure could not ...": ``read the app aiacaapp``. The error has ``status`` (None if
    there was no response), ``code``, ``request_id`` and ``causes``.
    """
    from azure.core.exceptions import AzureError

    try:
        yield
    except AzureError as error:
        raise azure_failed(action, error) from error


def or_none(action: str, request: Callable[[], T]) -> T | None:
    """Return the result of ``request``, None for 404; raises like :func:`translate_errors`."""
    from azure.core.exceptions import ResourceNotFoundError

    with translate_errors(action):
        try:
            return request()
        except ResourceNotFoundError:
            return None


def azure_failed(action: str, error: AzureError) -> AzureFailed:
    """Return the error for an exception of the SDK."""
    from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, IncompleteReadError

    if not isinstance(error, HttpResponseError) or isinstance(error, IncompleteReadError):
        return _no_response(action, error)
    response: Any = error.response
    if response is None and isinstance(error, ClientAuthenticationError):
        return _not_signed_in(action, error)  # from azure-identity: no token, so no request
    causes = explain(error_body(error))
    first = causes[0]
    status = error.status_code
    kind = QuotaShort if any(is_quota_exceeded(cause.code) for cause in causes) else AzureFailed
    if status == 401:
        kind = NotSignedIn
    elif status == 429 and not first.known:
        first = explain({"code": "TooManyRequests", "message": first.azure_message})[0]
    text = "; ".join(str(cause) for cause in [first, *causes[1:]])
    return kind(
        f"Azure could not {action}: {text or error.reason}",
        next_step=first.next_step,
        status=status,
        code=first.code,
        request_id=_request_id(response),
        causes=causes,
    )


def error_body(error: HttpResponseError) -> Mapping[str, Any] | str:
    """Return the error in a response body, or the SDK's message if the body holds none."""
    try:
        parsed: Any = json.loads(error.response.text()) if error.response is not None else None
    except Exception:  # noqa: BLE001  the body was streamed, cut or is not JSON
        parsed = None
    if isinstance(parsed, Mapping) and parsed:
        return parsed
    inner: Any = getattr(error, "error", None)
    message = str(getattr(inner, "message", "") or error.message or error)
    code = getattr(inner, "code", None) or getattr(error, "error_code", None)
    return {"code": str(code), "message": message} if code else message


def _no_response(action: str, error: AzureError) -> AzureFailed:
    message = " ".join(str(error.message or error).split())[:300]
    return AzureFailed(
        f"Azure could not {action}: there was no complete response ({message}).",
        next_step="check the network, the proxy (HTTPS_PROXY) and its certificate; then run the step again",
        code=type(error).__name__,
        causes=[Cause(type(error).__name__, message, None, "check the network")],
    )


def _not_signed_in(action: str, error: AzureError) -> NotSignedIn:
    message = str(error.message or error).strip()
    return NotSignedIn(
        f"Azure could not {action}: you are not signed in. {message[:1500]}",
        next_step="sign in: az login in a terminal, the Sign-in button of a form, or AZURE_CLIENT_ID, "
        "AZURE_TENANT_ID and AZURE_CLIENT_SECRET in the environment",
        code="NotSignedIn",
        causes=[],
    )


def _request_id(response: Any) -> str | None:
    headers: Mapping[str, str] = getattr(response, "headers", None) or {}
    return headers.get("x-ms-request-id") or headers.get("x-ms-correlation-request-id")
