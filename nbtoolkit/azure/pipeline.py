"""The HTTP pipeline of the Azure SDK's clients: transport, retries, authentication."""

from __future__ import annotations

import logging
from typing import Any

from azure.core.pipeline.policies import RetryPolicy
from azure.core.pipeline.transport import RequestsTransport
from azure.core.rest import HttpResponse
from azure.mgmt.core.policies import ARMChallengeAuthenticationPolicy

from nbtoolkit.azure.sdk import ARM_SCOPE

# The SDK logs every retried request as a warning; a request that fails finally is raised as an error.
logging.getLogger("azure.core").addHandler(logging.NullHandler())

RETRIED_METHODS = frozenset({"HEAD", "GET", "PUT", "PATCH", "POST", "DELETE", "OPTIONS", "TRACE"})


class DrainingTransport(RequestsTransport):
    """Read the body of every error response, so that its connection returns to the pool.

    Policies that retry, authenticate again or are cancelled drop such a response unread. With
    ``stream=True`` the connection would stay open until the response is garbage collected. ``except_for`` is
    a status whose body only the caller reads.
    """

    def __init__(self, *, except_for: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._except_for = except_for

    def send(self, request: Any, *, proxies: Any = None, **options: Any) -> Any:
        """Send one request; raises AzureError also if the body of an error response is cut off."""
        response: Any = super().send(request, proxies=proxies, **options)
        success = 200 <= response.status_code < 300
        if isinstance(response, HttpResponse) and not success and response.status_code != self._except_for:
            response.read()
        return response


class RetryAllMethods(RetryPolicy[Any, Any]):
    """Retry POST and PATCH too if the connection broke; the SDK's default retries all other methods.

    Every POST and PATCH sent here is idempotent: it reads (secrets, keys, checks) or names the desired
    state. While Azure works on a change it refuses the same change as a conflict, which is then awaited.
    """

    def configure_retries(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return the settings for one request."""
        options.setdefault("retry_on_methods", RETRIED_METHODS)
        return super().configure_retries(options)


class FreshTokenPolicy(ARMChallengeAuthenticationPolicy):
    """Retry once with a new token if Azure rejects the token as expired or invalid.

    The token may still have an hour by the local clock: clocks differ, and tokens are revoked.
    """

    def __init__(self, credential: Any) -> None:
        super().__init__(credential, ARM_SCOPE, enable_cae=True)
        self._shared_credential = credential

    def on_challenge(self, request: Any, response: Any) -> bool:
        """Handle a 401 response; return whether the request must be sent once more."""
        if super().on_challenge(request, response):
            return True
        forget = getattr(self._shared_credential, "forget", None)
        if forget is None:
            return False
        forget(request.http_request.headers.get("Authorization", "").removeprefix("Bearer "))
        self.authorize_request(request, ARM_SCOPE)
        return True
