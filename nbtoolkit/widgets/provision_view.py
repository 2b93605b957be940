"""The widgets of a provision: a form whose places are picked from Azure's own lists."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from nbtoolkit.azure.arm import subscriptions as places
from nbtoolkit.errors import NotSignedIn
from nbtoolkit.widgets import html as page
from nbtoolkit.widgets.forms.background_run import Operation, RunStatus
from nbtoolkit.widgets.forms.view import FormView
from nbtoolkit.widgets.sign_in_form import SignIn

if TYPE_CHECKING:
    from nbtoolkit.widgets.provision_form import ProvisionForm


class ProvisionView(FormView):
    """Fill the lists in a worker; what is typed by hand always counts as well.

    The panel to sign in stands on top while nobody is.
    """

    def __init__(self, form: ProvisionForm) -> None:
        self._provision_form = form
        self._listed_for: str | None = None
        self._listing = threading.Lock()
        self._places_note = w.HTML(layout=w.Layout(width="auto", display="none"))
        self.sign_in = SignIn()
        self.sign_in_panel = w.VBox([self.sign_in.view.widget], layout=w.Layout(display="none"))
        self.sign_in.watch(self._signed_in)
        super().__init__(form)
        self.widget.children = (self.sign_in_panel, self._places_note, *self.widget.children)
        self.list_places()

    def list_places(self) -> None:
        """Ask Azure for what there is to pick from, in a worker."""
        threading.Thread(target=self._list, name="nbtoolkit-places", daemon=True).start()

    # Below: callbacks.

    def _typed(self, name: str, shown: Any) -> None:
        super()._typed(name, shown)
        if name == "subscription":
            self.list_places()

    # Below: the worker; it writes the lists, never a value.

    def _list(self) -> None:
        with self._listing:
            try:
                self._fill()
            except NotSignedIn:
                self.sign_in_panel.layout.display = None
                return
            except Exception as error:  # noqa: BLE001 - a thread's error would be seen by nobody
                self._places_note.value = page.failure(error)
                self._places_note.layout.display = None
            self.sign_in_panel.layout.display = "none"

    def _fill(self) -> None:
        cloud = self._provision_form.cloud
        checked = self._provision_form.draft.check().settings
        chosen = checked.subscription if checked is not None else ""
        if self._listed_for is None:
            self._offer("subscription", places.subscriptions(cloud))
            self._listed_for = ""
        if chosen and chosen != self._listed_for:
            self._offer("resource_group", [one.name for one in places.resource_groups(chosen, cloud)])
            self._offer("location", places.regions(chosen, cloud))
            self._listed_for = chosen
        self._places_note.layout.display = "none"

    def _offer(self, name: str, options: list[Any]) -> None:
        self._inputs[name].widget.options = tuple(map(str, options))

    def _signed_in(self, operation: Operation[Any]) -> None:
        if operation.status is RunStatus.DONE:
            self._list()
            self._show_standing()
