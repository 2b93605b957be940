"""The sign-in panel: who is signed in, a button that works in a worker, the code, cancel; text headless."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from nbtoolkit.azure.auth import shared_credential as login
from nbtoolkit.azure.auth.interactive_sign_in import SignInSettings, blockers
from nbtoolkit.azure.auth.shared_credential import SharedCredential, SignedIn
from nbtoolkit.errors import Cancelled, NotSignedIn
from nbtoolkit.progress import Progress
from nbtoolkit.widgets import SignIn
from nbtoolkit.widgets import html as page
from nbtoolkit.widgets import sign_in_form as panel
from nbtoolkit.widgets.sign_in_form import code_card

ADA = SignedIn("ada@example.com", "contoso", "sign-in by device-code")
UNTIL = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)


class Entra:
    """Signs in when its gate opens, and shows a code before."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.asked: list[tuple[str, str | None]] = []
        self.outcome: SignedIn | Exception = ADA

    def sign_in(
        self, progress: Progress, method: str, tenant: str | None, *, tell: Callable[..., None]
    ) -> SignedIn:
        self.asked.append((method, tenant))
        progress.phase("Signing in to Azure")
        tell("https://microsoft.com/devicelogin", "ABCD1234", UNTIL)
        progress.phase("Waiting until the code is entered")
        while not self.gate.is_set():
            progress.sleep(0.01)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@pytest.fixture
def entra(monkeypatch: pytest.MonkeyPatch) -> Entra:
    found = Entra()
    monkeypatch.setattr(panel, "sign_in", found.sign_in)
    monkeypatch.setattr(login, "_shared", SharedCredential(lambda: ()))
    monkeypatch.setattr("nbtoolkit.widgets.forms.background_run._slots", {})
    return found


def texts(widget: Any) -> str:
    """Return all that a widget tree shows."""
    if getattr(getattr(widget, "layout", None), "display", None) == "none":
        return ""
    own = str(getattr(widget, "value", "")) + str(getattr(widget, "description", ""))
    return own + "".join(texts(child) for child in getattr(widget, "children", ()))


def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def test_a_press_shows_link_and_code_and_then_who_signed_in(entra: Entra) -> None:
    form = SignIn()
    form.view.run_button.click()
    until(lambda: "ABCD1234" in texts(form.view.widget))
    assert 'href="https://microsoft.com/devicelogin"' in texts(form.view.widget)
    entra.gate.set()
    assert form.result() == ADA
    until(lambda: "ABCD1234" not in texts(form.view.widget))
    assert "ada@example.com" in texts(form.view.widget)
    assert entra.asked == [("device-code", None)]


def test_the_button_says_what_it_does_and_cancel_stops_it(entra: Entra) -> None:
    form = SignIn()
    assert form.view.run_button.description == "Sign in"
    form.view.run_button.click()
    until(lambda: "ABCD1234" in texts(form.view.widget))
    form.view.cancel_button.click()
    with pytest.raises(Cancelled):
        form.result()
    until(lambda: "ABCD1234" not in texts(form.view.widget))


def test_a_cell_run_again_shows_the_code_that_is_waited_for(entra: Entra) -> None:
    first = SignIn()
    first.start()
    until(lambda: first.operation is not None and "Waiting" in first.operation.phase)
    again = SignIn()
    assert "ABCD1234" in texts(again.view.widget)
    entra.gate.set()
    assert again.result() == ADA
    assert "ABCD1234" not in texts(again.view.widget)


def test_a_refusal_is_shown_with_its_next_step(entra: Entra) -> None:
    entra.gate.set()
    entra.outcome = NotSignedIn("Your tenant blocks signing in with a device code.", next_step="run az login")
    form = SignIn(SignInSettings(tenant="contoso.example"))
    form.view.run_button.click()
    until(lambda: "blocks signing in" in texts(form.view.widget))
    assert "run az login" in texts(form.view.widget)
    assert entra.asked == [("device-code", "contoso.example")]


def test_without_a_press_nobody_is_asked(entra: Entra) -> None:
    with pytest.raises(NotSignedIn):
        SignIn().result()
    assert entra.asked == []


def test_opening_tells_who_is_signed_in_and_that_nobody_is_no_failure(
    entra: Entra, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = SignIn()
    until(lambda: "Not signed in." in texts(form.view.widget))
    assert "NotSignedIn" not in texts(form.view.widget)
    monkeypatch.setattr(login, "signed_in_as", lambda: ADA)
    other = SignIn()
    until(lambda: "signed in as ada@example.com" in texts(other.view.widget))


def test_headless_it_is_text_and_asks_nothing(entra: Entra) -> None:
    bundle = SignIn()._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    assert "nothing asked yet" in bundle["text/plain"]
    assert entra.asked == []


def test_a_browser_far_away_is_refused_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTERHUB_USER", "ada")
    settings = SignInSettings(method="browser")
    assert blockers(settings) == [
        "A browser cannot sign this kernel in: it runs on a JupyterHub. Choose device-code."
    ]
    assert SignIn(settings).view.run_button.disabled
    assert blockers(SignInSettings()) == []


def test_what_comes_from_outside_is_escaped() -> None:
    canary = "<img src=x onerror=alert(1)>"
    html = code_card(f"javascript:{canary}", canary, UNTIL)
    assert canary not in html
    assert "href" not in html
    assert canary not in page.represent(SignedIn(canary, canary, canary))
