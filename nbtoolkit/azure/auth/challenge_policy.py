"""How the SDK's clients present a token, and what they do when Azure refuses one that should be good."""

from __future__ import annotations

from typing import Any

from azure.mgmt.core.policies import ARMChallengeAuthenticationPolicy

from nbtoolkit.azure.clients import ARM_SCOPE


class FreshTokenPolicy(ARMChallengeAuthenticationPolicy):
    """Ask once more with a fresh token where Azure says that one has ended or is not valid.

    By our clock it may have an hour left: clocks differ, and tokens are revoked.
    """

    def __init__(self, credential: Any) -> None:
        super().__init__(credential, ARM_SCOPE, enable_cae=True)
        self._signed_in = credential

    def on_challenge(self, request: Any, response: Any) -> bool:
        """Answer Azure's refusal; tell whether the request is to be sent once more."""
        if super().on_challenge(request, response):
            return True
        forget = getattr(self._signed_in, "forget", None)
        if forget is None:
            return False
        forget(request.http_request.headers.get("Authorization", "").removeprefix("Bearer "))
        self.authorize_request(request, ARM_SCOPE)
        return True
