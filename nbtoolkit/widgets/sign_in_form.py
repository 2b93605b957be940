"""The sign-in panel of Azure: the current sign-in, a button, and the device code to enter."""

from __future__ import annotations

from datetime import datetime
from html import escape
from typing import Any

from nbtoolkit.azure.auth import shared_credential
from nbtoolkit.azure.auth.interactive_sign_in import SignInSettings, blockers, sign_in
from nbtoolkit.azure.auth.shared_credential import SignedIn
from nbtoolkit.errors import NotSignedIn
from nbtoolkit.progress import Progress
from nbtoolkit.utils.display import html_table
from nbtoolkit.widgets.forms import Form
from nbtoolkit.widgets.forms.background_run import BackgroundRun, RunStatus
from nbtoolkit.widgets.html import FONT_STYLE, MUTED_STYLE, TEXT_STYLE, text_line


class SignIn(Form[SignInSettings, SignedIn]):
    """Show the current sign-in to Azure, and sign in with a device code or in a browser.

    Only the button starts a sign-in. ``result()`` waits for it if it is running, and returns the current
    sign-in otherwise; raises :class:`NotSignedIn` if there is none. Headless, the panel is text.
    """

    def __init__(self, settings: SignInSettings | None = None) -> None:
        self._code_view: Any = None
        super().__init__(
            settings or SignInSettings,
            self._sign_in,
            step="Sign in to Azure",
            target="azure",
            blockers=blockers,
            status=_sign_in_status,
            run_label="Sign in",
        )

    def result(self) -> SignedIn:
        """Return the current sign-in; waits for a running one (■ cancels it)."""
        return shared_credential.signed_in_as() if self.current_run is None else super().result()

    def _build_view(self) -> Any:
        import ipywidgets as w

        from nbtoolkit.widgets.forms.view import FormView

        self._code_view = w.HTML(layout=w.Layout(width="auto", display="none"))
        view = FormView(self)
        view.widget.children = (*view.widget.children, self._code_view)
        self.subscribe(self._draw_code)
        if self.current_run is not None:  # the cell was run again
            self._draw_code(self.current_run)
        return view

    # Below: called by the worker thread.

    def _sign_in(self, settings: SignInSettings, *, progress: Progress) -> SignedIn:
        try:
            return sign_in(progress, settings.method, settings.tenant or None, show_code=_device_code.show)
        finally:
            _device_code.card = ""

    def _draw_code(self, run: BackgroundRun[Any]) -> None:
        card = _device_code.card if run.status is RunStatus.RUNNING else ""
        if self._code_view.value != card:
            self._code_view.value = card
            self._code_view.layout.display = None if card else "none"

    def __repr__(self) -> str:
        source = shared_credential.credential().source
        text = f"with {source}" if source else "no token requested yet"
        return f"Sign-in to Azure ({text}); signed_in_as() returns the account and starts no sign-in"


class _DeviceCode:
    """The card with the device code of the running sign-in, for every panel of this process."""

    def __init__(self) -> None:
        self.card = ""

    def show(self, address: str, code: str, until: datetime) -> None:
        self.card = device_code_card(address, code, until)


_device_code = _DeviceCode()


class _NoSignIn:
    """The status without a sign-in, displayed as a status and not as an error."""

    def __init__(self, error: NotSignedIn) -> None:
        self._error = error

    def __str__(self) -> str:
        return self._error.message

    def _repr_html_(self) -> str:
        return text_line("Not signed in.") + html_table(self._error.reasons.items())


def _sign_in_status() -> SignedIn | _NoSignIn:
    try:
        return shared_credential.signed_in_as()
    except NotSignedIn as error:
        return _NoSignIn(error)


def device_code_card(address: str, code: str, until: datetime) -> str:
    """Return the link and the device code as escaped HTML; only https addresses become links."""
    safe = escape(address, quote=True)
    link = (
        f'<a href="{safe}" target="_blank" rel="noopener" style="text-decoration:underline">{safe}</a>'
        if address.startswith("https://")
        else safe
    )
    return (
        f'<div style="{FONT_STYLE};{TEXT_STYLE};margin:6px 0">Open {link} and enter '
        f'<code style="font-size:18px;letter-spacing:2px;user-select:all">{escape(code)}</code>'
        f'<div style="{MUTED_STYLE}">Valid until {until.astimezone():%H:%M}. '
        "Enter it only if you pressed Sign in yourself.</div></div>"
    )
