"""Talk to what is deployed: which endpoint, and what to ask it."""

from __future__ import annotations

from pydantic import Field

from nbtoolkit.endpoint import Endpoint
from nbtoolkit.settings import Settings
from nbtoolkit.target_factory import TargetName, resolve_target
from nbtoolkit.workspace import Workspace


class InferenceSettings(Settings):
    """Where the endpoint runs, and prompts to ask it."""

    target: TargetName = Field(default="azure", description="azure, or local: this machine")
    prompts: tuple[str, ...] = Field(default=("Hello!",), description="asked of every model that is served")
    timeout: float = Field(default=1800, gt=0, description="seconds until the endpoint must be ready")

    def endpoint(self, workspace: Workspace | None = None) -> Endpoint:
        """Return the workspace's endpoint there; raises :class:`NotReady` where nothing was deployed."""
        return resolve_target(self.target, workspace=workspace).endpoint()
