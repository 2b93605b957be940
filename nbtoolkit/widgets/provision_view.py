"""The widgets of a provision: lists of subscriptions, resource groups and regions, and the sign-in."""

from __future__ import annotations

import threading
from typing import Any

import ipywidgets as w

from nbtoolkit.azure.arm.subscriptions import regions, resource_groups, subscriptions
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.errors import NotSignedIn
from nbtoolkit.utils.threads import start_daemon
from nbtoolkit.widgets.forms.background_run import BackgroundRun, RunStatus
from nbtoolkit.widgets.forms.model import FormModel
from nbtoolkit.widgets.forms.view import FormView
from nbtoolkit.widgets.html import error_card
from nbtoolkit.widgets.sign_in_form import SignIn


class ProvisionView(FormView):
    """Fill the lists in a worker thread; any typed text is accepted as well.

    The sign-in panel is on top while there is no sign-in.
    """

    def __init__(self, form: FormModel[Any, Any], cloud: Cloud) -> None:
        self._cloud = cloud
        self._listed_subscription: str | None = None
        self._listing = threading.Lock()
        self._list_error = w.HTML(layout=w.Layout(width="auto", display="none"))
        self.sign_in = SignIn()
        self.sign_in_panel = w.VBox([self.sign_in.view.widget], layout=w.Layout(display="none"))
        self.sign_in.subscribe(self._sign_in_changed)
        super().__init__(form)
        self.widget.children = (self.sign_in_panel, self._list_error, *self.widget.children)
        self._list_in_background()

    def _list_in_background(self) -> None:
        start_daemon(self._list, name="azure-lists")

    # Below: called by callbacks.

    def _input_changed(self, name: str, entered: Any) -> None:
        super()._input_changed(name, entered)
        if name == "subscription":
            self._list_in_background()

    # Below: called by worker threads, which write the lists and never a value.

    def _list(self) -> None:
        with self._listing:
            try:
                self._fill()
            except NotSignedIn:
                self.sign_in_panel.layout.display = None
                return
            except Exception as error:  # noqa: BLE001 - shown here, because nothing reads a thread's error
                self._list_error.value = error_card(error)
                self._list_error.layout.display = None
            self.sign_in_panel.layout.display = "none"

    def _fill(self) -> None:
        settings = self._form.state.validate().settings
        subscription = settings.subscription if settings is not None else ""
        if self._listed_subscription is None:
            self._set_options("subscription", subscriptions(self._cloud))
            self._listed_subscription = ""
        if subscription and subscription != self._listed_subscription:
            groups = resource_groups(subscription, self._cloud)
            self._set_options("resource_group", [group.name for group in groups])
            self._set_options("location", regions(subscription, self._cloud))
            self._listed_subscription = subscription
        self._list_error.layout.display = "none"

    def _set_options(self, name: str, options: list[Any]) -> None:
        self._inputs[name].widget.options = tuple(map(str, options))

    def _sign_in_changed(self, run: BackgroundRun[Any]) -> None:
        if run.status is RunStatus.DONE:
            self._list()
            self._show_status()
