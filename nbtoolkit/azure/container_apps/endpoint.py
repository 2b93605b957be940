"""The URL of an app's endpoint and its API key."""

from __future__ import annotations

import time

from pydantic import SecretStr

from nbtoolkit.azure.container_apps.app import ContainerApp
from nbtoolkit.azure.container_apps.managed_app import is_managed
from nbtoolkit.endpoint import Endpoint
from nbtoolkit.errors import InvalidSettings, NotReady

API_KEY_SECRET = "nbtoolkit-api-key"  # noqa: S105 - the name of a secret
"""The secret of the app that holds the endpoint's key."""
_KEY_MAX_AGE = 60.0
"""Seconds for which a key is cached; it may be replaced at any time."""


class AppEndpoint:
    """The public endpoint of one app. Nothing here sends a request to it, which would wake the app."""

    def __init__(self, app: ContainerApp) -> None:
        self._app = app
        self._cached_key: tuple[float, SecretStr] | None = None

    def url(self) -> str:
        """Return the URL from the config file, else from ARM in one request."""
        provisioned = self._app.provisioned
        if provisioned.endpoint:
            return provisioned.endpoint
        host = self._app.get().host
        if not host:
            raise InvalidSettings(
                f"The app {provisioned.app} has no public address: its ingress is off.",
                next_step="turn on the ingress of the app, or run provision() again",
            )
        return f"https://{host}"

    def endpoint(self) -> Endpoint:
        """Return URL and key; the key is empty for a custom server without one. At most one request a minute.

        Raises :class:`NotReady` if nbtoolkit's server has no key.
        """
        if self._cached_key is None or time.monotonic() - self._cached_key[0] > _KEY_MAX_AGE:
            key = self._app.secrets().get(API_KEY_SECRET)
            if not key and is_managed(self._app.get()):
                name = self._app.provisioned.app
                raise NotReady(
                    f"The app {name} has no secret {API_KEY_SECRET}: its endpoint cannot be used.",
                    next_step="run provision(): it makes one",
                    reason="no key",
                )
            self._cached_key = (time.monotonic(), SecretStr(key or ""))
        return Endpoint(self.url(), self._cached_key[1])
