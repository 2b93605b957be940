"""The widgets of a provision: a form whose places are picked from Azure's own lists."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from nbtoolkit.azure import places
from nbtoolkit.errors import AzureFailed, MissingDependency, NotSignedIn
from nbtoolkit.widgets import page
from nbtoolkit.widgets.form_view import FormView

if TYPE_CHECKING:
    from nbtoolkit.widgets.provision_form import ProvisionForm


class ProvisionView(FormView):
    """Fill the lists in a worker; what is typed by hand always counts as well."""

    def __init__(self, form: ProvisionForm) -> None:
        self._provision_form = form
        self._listed_for: str | None = None
        self._listing = threading.Lock()
        self._places_note = w.HTML(layout=w.Layout(width="auto", display="none"))
        super().__init__(form)
        self.widget.children = (self._places_note, *self.widget.children)
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
            except NotSignedIn as error:
                self._note("Sign in to pick from lists", error)
            except (AzureFailed, MissingDependency) as error:
                self._note("Nothing could be listed", error)

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

    def _note(self, title: str, error: AzureFailed | MissingDependency) -> None:
        self._places_note.value = page.notice(title, str(error))
        self._places_note.layout.display = None
