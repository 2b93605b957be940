"""The panel that signs in to Azure: who is signed in, a button, and the code to enter."""

from __future__ import annotations

from datetime import datetime
from html import escape
from typing import Any

from nbtoolkit.azure.auth import shared_credential as login
from nbtoolkit.azure.auth.interactive_sign_in import SignInSettings, blockers, sign_in
from nbtoolkit.azure.auth.shared_credential import SignedIn
from nbtoolkit.errors import NotSignedIn
from nbtoolkit.progress import Progress
from nbtoolkit.widgets import html as page
from nbtoolkit.widgets.forms.background_run import Operation, RunStatus
from nbtoolkit.widgets.forms.form import Form


class SignIn(Form[SignInSettings, SignedIn]):
    """Show who is signed in to Azure, and let a person sign in with a code or in a browser.

    Only its button signs in: ``result()`` returns who is signed in, after a press that one, and asks nobody.
    It raises :class:`NotSignedIn` where nobody is. Headless it is plain text.
    """

    def __init__(self, settings: SignInSettings | None = None) -> None:
        self._code_view: Any = None
        super().__init__(
            settings or SignInSettings,
            self._sign_in,
            step="Sign in to Azure",
            target="azure",
            blockers=blockers,
            standing=_standing,
        )

    def result(self) -> SignedIn:
        """Return who is signed in; a sign-in that runs is waited for (■ cancels it)."""
        return login.signed_in_as() if self.operation is None else super().result()

    @property
    def view(self) -> Any:
        """The panel's widgets, built on first use."""
        if self._view is None:
            import ipywidgets as w

            from nbtoolkit.widgets.forms.view import FormView

            self._code_view = w.HTML(layout=w.Layout(width="auto", display="none"))
            self._view = view = FormView(self)
            view.run_button.description = "Sign in"
            view.widget.children = (*view.widget.children, self._code_view)
            self.watch(self._draw_code)
            if self.operation is not None:  # a cell that was run again
                self._draw_code(self.operation)
        return self._view

    # Below: the worker.

    def _sign_in(self, settings: SignInSettings, *, progress: Progress) -> SignedIn:
        try:
            return sign_in(progress, settings.method, settings.tenant or None, tell=_code.show)
        finally:
            _code.card = ""

    def _draw_code(self, operation: Operation[Any]) -> None:
        card = _code.card if operation.status is RunStatus.RUNNING else ""
        if self._code_view.value != card:
            self._code_view.value = card
            self._code_view.layout.display = None if card else "none"

    def __repr__(self) -> str:
        source = login.credential().source
        who = f"with {source}" if source else "nothing asked yet"
        return f"Sign-in to Azure ({who}); signed_in_as() tells who, and asks nobody to sign in"


class _Code:
    """The card with the code that is waited for, for every panel of this process."""

    def __init__(self) -> None:
        self.card = ""

    def show(self, address: str, code: str, until: datetime) -> None:
        self.card = code_card(address, code, until)


_code = _Code()


class _Nobody:
    """That nobody is signed in, as a state and not as a failure."""

    def __init__(self, error: NotSignedIn) -> None:
        self._error = error

    def __str__(self) -> str:
        return self._error.message

    def _repr_html_(self) -> str:
        reasons = self._error.reasons
        return page.plain("Not signed in.") + page.table(reasons.items())


def _standing() -> SignedIn | _Nobody:
    try:
        return login.signed_in_as()
    except NotSignedIn as error:
        return _Nobody(error)


def code_card(address: str, code: str, until: datetime) -> str:
    """Return the link and the code as HTML; both come from outside."""
    safe = escape(address, quote=True)
    link = (
        f'<a href="{safe}" target="_blank" rel="noopener" style="text-decoration:underline">{safe}</a>'
        if address.startswith("https://")
        else safe
    )
    return (
        f'<div style="{page.FONT};{page.TEXT};margin:6px 0">Open {link} and enter '
        f'<code style="font-size:18px;letter-spacing:2px;user-select:all">{escape(code)}</code>'
        f'<div style="{page.MUTED}">Good until {until.astimezone():%H:%M}. '
        "Enter it only if you pressed Sign in yourself.</div></div>"
    )
