"""Where the app answers, and the key that it wants."""

from __future__ import annotations

import time

from pydantic import SecretStr

from nbtoolkit.azure.container_apps.app import App
from nbtoolkit.azure.container_apps.managed_app import is_ours
from nbtoolkit.endpoint import Endpoint
from nbtoolkit.errors import InvalidSettings, NotReady

API_KEY = "nbtoolkit-api-key"
"""The secret of the app that holds the endpoint's key."""
_KEY_SECONDS = 60.0
"""For so long a key counts as known: somebody may have replaced it."""


class Address:
    """The public address of one app. Nothing here asks it, so nothing here wakes it."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._known: tuple[float, SecretStr] | None = None

    def url(self) -> str:
        """Return the address out of the config file, else as ARM gives it."""
        place = self._app.provisioned
        if place.endpoint:
            return place.endpoint
        host = self._app.get().host
        if not host:
            raise InvalidSettings(
                f"The app {place.app} has no public address: its ingress is off.",
                next_step="turn on the ingress of the app, or run provision() again",
            )
        return f"https://{host}"

    def endpoint(self) -> Endpoint:
        """Return address and key, an empty one where a server of the user's own wants none of ours.

        One request a minute; raises :class:`NotReady` where our server has no key.
        """
        if self._known is None or time.monotonic() - self._known[0] > _KEY_SECONDS:
            found = self._app.secrets().get(API_KEY)
            if not found and is_ours(self._app.get()):
                name = self._app.provisioned.app
                raise NotReady(
                    f"The app {name} has no secret {API_KEY}: nobody can use its endpoint.",
                    next_step="run provision(): it makes one",
                    reason="no key",
                )
            self._known = (time.monotonic(), SecretStr(found or ""))
        return Endpoint(self.url(), self._known[1])
