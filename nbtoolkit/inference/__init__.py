"""Use a deployed endpoint: settings, chat and comparison."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from nbtoolkit.endpoint import Endpoint
from nbtoolkit.settings import Settings
from nbtoolkit.target_factory import TargetName, resolve_target
from nbtoolkit.workspace import Workspace


class InferenceSettings(Settings):
    """The target whose endpoint is used, and prompts for it."""

    target: TargetName = Field(default="azure", description="azure, or local: this machine")
    prompts: tuple[str, ...] = Field(default=("Hello!",), description="sent to every served model")
    timeout: float = Field(default=1800, gt=0, description="seconds until the endpoint must be ready")

    def endpoint(self, workspace: Workspace | None = None) -> Endpoint:
        """Return the endpoint of the workspace's target; raises :class:`NotReady` if nothing is deployed."""
        return resolve_target(self.target, workspace=workspace).endpoint()


class ChatSettings(Settings):
    """The sampling of answers in a chat."""

    system: str = Field(
        default="", title="System message", description="the first message to the model; may be empty"
    )
    temperature: float = Field(default=0.0, ge=0, le=2, description="0 always takes the likeliest token")
    top_p: float = Field(default=1.0, gt=0, le=1, title="Top p", description="share of likely tokens kept")
    max_tokens: int = Field(default=256, ge=1, title="Longest answer", description="in tokens")
    seed: int | None = Field(default=None, description="the same seed gives the same answer")

    @property
    def request(self) -> dict[str, Any]:
        """The sampling fields of a request."""
        return self.model_dump(exclude={"system"}, exclude_none=True)
