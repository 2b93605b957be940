"""The sign-in panel: current sign-in, button, device code, cancel, headless text and escaping."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from nbtoolkit.azure.auth import shared_credential
from nbtoolkit.azure.auth.interactive_sign_in import SignInSettings, blockers
from nbtoolkit.azure.auth.shared_credential import SharedCredential, SignedIn
from nbtoolkit.errors import Cancelled, NotSignedIn
from nbtoolkit.progress import Progress
from nbtoolkit.widgets import SignIn, sign_in_form
from nbtoolkit.widgets.html import html_of
from nbtoolkit.widgets.sign_in_form import device_code_card
from tests.support.wait import wait_until
from tests.support.widget_tree import visible_text

ADA = SignedIn("ada@example.com", "contoso", "sign-in by device-code")
UNTIL = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)


class Entra:
    """Shows a device code, and signs in when the gate opens."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.calls: list[tuple[str, str | None]] = []
        self.outcome: SignedIn | Exception = ADA

    def sign_in(
        self, progress: Progress, method: str, tenant: str | None, *, show_code: Callable[..., None]
    ) -> SignedIn:
        self.calls.append((method, tenant))
        progress.phase("Signing in to Azure")
        show_code("https://microsoft.com/devicelogin", "ABCD1234", UNTIL)
        progress.phase("Waiting until the code is entered")
        while not self.gate.is_set():
            progress.sleep(0.01)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@pytest.fixture
def entra(monkeypatch: pytest.MonkeyPatch) -> Entra:
    fake = Entra()
    monkeypatch.setattr(sign_in_form, "sign_in", fake.sign_in)
    monkeypatch.setattr(shared_credential, "_shared", SharedCredential(lambda: ()))
    monkeypatch.setattr("nbtoolkit.widgets.forms.background_run._runs", {})
    return fake


def test_sign_in_shows_link_and_code_and_then_the_account(entra: Entra) -> None:
    form = SignIn()
    form.view.run_button.click()
    wait_until(lambda: "ABCD1234" in visible_text(form.view.widget))
    assert 'href="https://microsoft.com/devicelogin"' in visible_text(form.view.widget)
    entra.gate.set()
    assert form.result() == ADA
    wait_until(lambda: "ABCD1234" not in visible_text(form.view.widget))
    assert "ada@example.com" in visible_text(form.view.widget)
    assert entra.calls == [("device-code", None)]


def test_the_button_is_labelled_sign_in_and_cancel_stops_it(entra: Entra) -> None:
    form = SignIn()
    assert form.view.run_button.description == "Sign in"
    form.view.run_button.click()
    wait_until(lambda: "ABCD1234" in visible_text(form.view.widget))
    form.view.cancel_button.click()
    with pytest.raises(Cancelled):
        form.result()
    wait_until(lambda: "ABCD1234" not in visible_text(form.view.widget))


def test_a_second_panel_shows_the_code_of_the_running_sign_in(entra: Entra) -> None:
    first = SignIn()
    first.start()
    wait_until(lambda: first.current_run is not None and "Waiting" in first.current_run.phase)
    again = SignIn()
    assert "ABCD1234" in visible_text(again.view.widget)
    entra.gate.set()
    assert again.result() == ADA
    assert "ABCD1234" not in visible_text(again.view.widget)


def test_a_failed_sign_in_is_displayed_with_its_next_step(entra: Entra) -> None:
    entra.gate.set()
    entra.outcome = NotSignedIn("Your tenant blocks signing in with a device code.", next_step="run az login")
    form = SignIn(SignInSettings(tenant="contoso.example"))
    form.view.run_button.click()
    wait_until(lambda: "blocks signing in" in visible_text(form.view.widget))
    assert "run az login" in visible_text(form.view.widget)
    assert entra.calls == [("device-code", "contoso.example")]


def test_result_without_a_press_starts_no_sign_in(entra: Entra) -> None:
    with pytest.raises(NotSignedIn):
        SignIn().result()
    assert entra.calls == []


def test_the_panel_shows_the_account_or_that_there_is_none(
    entra: Entra, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = SignIn()
    wait_until(lambda: "Not signed in." in visible_text(form.view.widget))
    assert "NotSignedIn" not in visible_text(form.view.widget)
    monkeypatch.setattr(shared_credential, "signed_in_as", lambda: ADA)
    other = SignIn()
    wait_until(lambda: "signed in as ada@example.com" in visible_text(other.view.widget))


def test_a_headless_panel_is_text_and_requests_no_token(entra: Entra) -> None:
    bundle = SignIn()._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    assert "no token requested yet" in bundle["text/plain"]
    assert entra.calls == []


def test_the_browser_method_is_blocked_on_a_jupyterhub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTERHUB_USER", "ada")
    settings = SignInSettings(method="browser")
    assert blockers(settings) == [
        "A browser cannot sign this kernel in: it runs on a JupyterHub. Choose device-code."
    ]
    assert SignIn(settings).view.run_button.disabled
    assert blockers(SignInSettings()) == []


def test_code_address_and_account_are_escaped() -> None:
    canary = "<img src=x onerror=alert(1)>"
    html = device_code_card(f"javascript:{canary}", canary, UNTIL)
    assert canary not in html
    assert "href" not in html
    assert canary not in html_of(SignedIn(canary, canary, canary))
