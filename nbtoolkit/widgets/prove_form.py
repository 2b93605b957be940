"""The form that proves a live endpoint."""

from __future__ import annotations

from nbtoolkit.deployment import LiveProof, ProveSettings, prove
from nbtoolkit.progress import Progress
from nbtoolkit.target import Target
from nbtoolkit.target_factory import resolve_target
from nbtoolkit.widgets.forms import Form
from nbtoolkit.workspace import Workspace


class ProveForm(Form[ProveSettings, LiveProof]):
    """Prove that the live endpoint serves its release; headless, ``result()`` is :func:`nbtoolkit.prove`.

    ``target`` overrides that of the settings. The result is shown as a failure unless all is proven.
    """

    def __init__(
        self,
        settings: ProveSettings | None = None,
        target: Target | None = None,
        *,
        workspace: Workspace | None = None,
    ) -> None:
        self.target = target
        self.workspace = workspace or (target.workspace if target else Workspace.find())
        super().__init__(
            settings or ProveSettings,
            self._prove,
            step="Proof",
            workspace=self.workspace,
            target=target.name if target else settings.target if settings else "azure",
            advanced=["timeout", *(["target"] if target else [])],
            is_success=bool,
            run_label="Prove",
        )

    def _prove(self, settings: ProveSettings, *, progress: Progress) -> LiveProof:
        target = resolve_target(self.target or settings.target, workspace=self.workspace)
        return prove(target, wake=settings.wake, timeout=settings.timeout, progress=progress)
