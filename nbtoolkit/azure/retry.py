"""How the SDK's clients try again when an answer is lost."""

from __future__ import annotations

import logging
from typing import Any

from azure.core.pipeline.policies import RetryPolicy

# An answer that is asked for again is no news; one that never comes reaches the user as an error.
logging.getLogger("azure.core").addHandler(logging.NullHandler())

METHODS = frozenset({"HEAD", "GET", "PUT", "PATCH", "POST", "DELETE", "OPTIONS", "TRACE"})


class RetryOnLostAnswers(RetryPolicy[Any, Any]):
    """Send a POST or PATCH again too when the line broke; by itself the SDK does that for all others.

    Those sent here either read (secrets, keys, checks) or name the state that they want, so that twice is as
    once: a change that Azure still works on refuses the second as a conflict, which is waited for.
    """

    def configure_retries(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return the settings for one request."""
        options.setdefault("retry_on_methods", METHODS)
        return super().configure_retries(options)
