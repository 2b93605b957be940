"""Sign in from the available sources, once, within timeouts; interactively only on request."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs

import pytest
from azure.core.credentials import AccessTokenInfo
from msal.oauth2cli import oauth2

from nbtoolkit.azure.arm import subscriptions as places
from nbtoolkit.azure.auth import credential_sources as credentials
from nbtoolkit.azure.auth import interactive_sign_in as sign_in
from nbtoolkit.azure.auth import shared_credential
from nbtoolkit.azure.auth.credential_sources import (
    CredentialSource,
    Unavailable,
    account_credential,
    read_account,
    record_path,
)
from nbtoolkit.azure.auth.shared_credential import SharedCredential
from nbtoolkit.azure.sdk import ARM_SCOPE
from nbtoolkit.errors import Cancelled, MissingDependency, NotSignedIn
from tests.azure_double import SUBSCRIPTION, AzureDouble
from tests.support.recording_progress import RecordingProgress, call_at

TENANT = "11111111-2222-3333-4444-555555555555"
HOST = "login.microsoftonline.com"
SECRET = "canary-of-a-client-secret"


@pytest.fixture(autouse=True)
def no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without any sign-in: no variables, no home, no shared credential."""
    for name in [name for name in os.environ if name.startswith(("AZURE_", "IDENTITY_", "MSI_", "SSH_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr(shared_credential, "_shared", None)


class FakeCredential:
    """A credential of the SDK that answers each request for a token with the next of its outcomes."""

    def __init__(self, *outcomes: Any, wait: float = 0.0) -> None:
        self.outcomes = list(outcomes)
        self.wait = wait
        self.asked: list[tuple[tuple[str, ...], dict[str, Any]]] = []

    def get_token_info(self, *scopes: str, options: dict[str, Any]) -> Any:
        self.asked.append((scopes, options))
        time.sleep(self.wait)
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def token(text: str = "t0", seconds: int = 3600) -> AccessTokenInfo:
    return AccessTokenInfo(text, int(time.time()) + seconds)


def source(name: str, credential: Any, limit: float = 5.0, *, binding: bool = False) -> CredentialSource:
    def make() -> Any:
        if isinstance(credential, Exception):
            raise credential
        return credential

    return CredentialSource(name, make, limit, binding)


def shared(*sources: CredentialSource) -> SharedCredential:
    return SharedCredential(lambda: sources)


def jwt(**claims: str) -> str:
    return ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
        for part in ({"alg": "none"}, claims, {})
    )


def test_the_first_source_with_a_token_is_kept_and_requested_once() -> None:
    first, second = FakeCredential(token()), FakeCredential(token("other"))
    mine = shared(source("one", Unavailable("not here")), source("two", first), source("three", second))
    assert {mine.get_token(ARM_SCOPE).token for _ in range(5)} == {"t0"}
    assert (len(first.asked), len(second.asked), mine.source) == (1, 0, "two")


def test_many_threads_cost_one_token() -> None:
    fake = FakeCredential(token(), wait=0.05)
    mine = shared(source("one", fake))
    threads = [threading.Thread(target=mine.get_token, args=(ARM_SCOPE,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fake.asked) == 1


def test_a_token_is_requested_again_before_it_expires_and_for_each_scope() -> None:
    fake = FakeCredential(
        token("a", seconds=shared_credential.REFRESH_BEFORE_EXPIRY - 1), token("b"), token("c")
    )
    mine = shared(source("one", fake))
    assert mine.get_token("x").token == "a"
    assert mine.get_token("x").token == "b"
    assert mine.get_token("y").token == "c"
    assert [scopes for scopes, _ in fake.asked] == [("x",), ("x",), ("y",)]


def test_a_revoked_token_is_not_read_from_the_cache() -> None:
    fake = FakeCredential(token("a"), token("b"))
    mine = shared(source("one", fake))
    mine.get_token_info("x")
    assert mine.get_token_info("x", options={"claims": "revoked"}).token == "b"
    assert fake.asked[-1][1] == {"claims": "revoked", "enable_cae": True}
    assert mine.get_token_info("x").token == "b"


@pytest.mark.parametrize("authority", ["https://login.microsoftonline.us", "login.chinacloudapi.cn/"])
def test_another_cloud_is_refused(authority: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", authority)
    fake = FakeCredential(token())
    with pytest.raises(NotSignedIn, match=r"AZURE_AUTHORITY_HOST names login\.\w+.*another cloud") as caught:
        shared(source("environment", fake)).get_token(ARM_SCOPE)
    assert "remove AZURE_AUTHORITY_HOST" in caught.value.next_step
    assert fake.asked == []
    with pytest.raises(NotSignedIn, match="another cloud"):
        sign_in.sign_in(RecordingProgress())
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com/")
    assert shared(source("environment", fake)).get_token(ARM_SCOPE).token == "t0"


def test_slow_and_failing_sources_are_named_with_their_reason() -> None:
    mine = shared(
        source("environment", Unavailable("AZURE_TENANT_ID is not set")),
        source("managed identity", FakeCredential(token(), wait=1.0), limit=0.1),
        source("Azure CLI", FakeCredential(RuntimeError("Please run 'az login' to set up an account"))),
    )
    began = time.monotonic()
    with pytest.raises(NotSignedIn) as caught:
        mine.get_token(ARM_SCOPE)
    assert time.monotonic() - began < 0.8
    assert caught.value.__dict__["reasons"] == {
        "environment": "AZURE_TENANT_ID is not set",
        "managed identity": "no answer in 0.1 s",
        "Azure CLI": "Please run 'az login' to set up an account",
    }
    assert "managed identity: no answer in 0.1 s" in str(caught.value)
    assert "Next:" in str(caught.value)
    assert isinstance(caught.value, PermissionError)


def test_waiting_threads_raise_the_failure_of_the_thread_that_requested() -> None:
    fake = FakeCredential(RuntimeError("no"), wait=0.1)
    mine = shared(source("one", fake))
    errors: list[NotSignedIn] = []

    def ask() -> None:
        with pytest.raises(NotSignedIn) as caught:
            mine.get_token(ARM_SCOPE)
        errors.append(caught.value)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 6
    assert len(fake.asked) == 1


def test_the_next_call_after_a_failure_requests_again() -> None:
    fake = FakeCredential(RuntimeError("no"), token())
    mine = shared(source("one", fake))
    with pytest.raises(NotSignedIn):
        mine.get_token(ARM_SCOPE)
    assert mine.get_token(ARM_SCOPE).token == "t0"


def test_a_configured_environment_that_is_refused_is_not_replaced_by_another_account() -> None:
    other = FakeCredential(token())
    mine = shared(
        source("environment", FakeCredential(RuntimeError("AADSTS7000215: wrong")), binding=True),
        source("cli", other),
    )
    with pytest.raises(NotSignedIn, match="environment: AADSTS7000215") as caught:
        mine.get_token(ARM_SCOPE)
    assert other.asked == []
    assert "correct these environment variables" in str(caught.value)


def test_a_missing_sdk_is_raised_not_listed_as_a_reason() -> None:
    missing = MissingDependency(
        "azure.identity cannot be imported", next_step="pip install it", package="azure.identity"
    )
    with pytest.raises(MissingDependency):
        shared(source("one", missing)).get_token(ARM_SCOPE)


def test_the_real_sources_name_missing_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_TENANT_ID", TENANT)
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:9")
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(NotSignedIn) as caught:
        shared_credential.signed_in_as()
    reasons = caught.value.__dict__["reasons"]
    assert reasons["environment"] == "AZURE_CLIENT_ID, AZURE_CLIENT_SECRET are not set"
    assert set(reasons) == {"environment", "managed identity", "Azure CLI", "earlier sign-in"}
    assert "Azure CLI" in reasons["Azure CLI"]
    assert reasons["earlier sign-in"] == "there was no interactive sign-in yet"
    assert "\n" not in "".join(reasons.values())


def test_a_reason_holds_no_secret_and_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_CLIENT_SECRET", SECRET)
    text = credentials.failure_reason(
        RuntimeError(f"AADSTS7000215: Invalid {SECRET} given. Trace ID: 12 Correlation")
    )
    assert text == "AADSTS7000215: Invalid *** given"
    assert len(credentials.failure_reason(RuntimeError("x" * 5000))) <= 240


def test_the_account_is_read_from_the_token() -> None:
    who = shared_credential.account_of_token(jwt(upn="ada@example.com", tid=TENANT), "Azure CLI")
    assert (who.account, who.tenant, who.source) == ("ada@example.com", TENANT, "Azure CLI")
    assert "ada@example.com" in str(who)
    assert (
        shared_credential.account_of_token(jwt(appid="id", tid=TENANT), "environment").account
        == "application id"
    )
    assert shared_credential.account_of_token("no.jwt", "x").account == "unknown account"


def test_a_token_that_azure_refuses_is_replaced_within_the_same_call(azure_double: AzureDouble) -> None:
    places.subscriptions()
    azure_double.tokens.expire_all()
    assert places.subscriptions()[0].id == SUBSCRIPTION
    statuses = [seen.status for seen in azure_double.requests if seen.path == "/subscriptions"]
    assert statuses == [200, 401, 200]
    assert len([seen for seen in azure_double.requests if seen.path.endswith("/token")]) == 2


def test_a_refused_token_is_dropped_once_by_many_threads() -> None:
    fake = FakeCredential(token("a"), token("b"))
    mine = shared(source("one", fake))
    mine.get_token("x")
    for _ in range(3):
        mine.forget("a")
    assert mine.get_token("x").token == "b"
    mine.forget("a")
    assert mine.get_token("x").token == "b"
    assert len(fake.asked) == 2


# Signing in by hand, through the SDK and its token library; only the network is a fake.


class LoginHostTransport:
    """login.microsoftonline.com as a transport of the SDK; each poll for the token gets the next outcome."""

    def __init__(self, *polls: dict[str, Any]) -> None:
        self.polls = list(polls)
        self.sent: list[str] = []

    def send(self, request: Any, **_: Any) -> Any:
        from azure.core.pipeline.transport import HttpResponse

        path = request.url.split("?")[0].rsplit("/", 1)[-1]
        self.sent.append(path)
        content, status = self._answer(path, request)
        response = HttpResponse(request, None)
        response.status_code, response.headers = status, {"Content-Type": "application/json"}
        response.content_type, response.reason = "application/json", "OK"
        response.body = lambda: json.dumps(content).encode()
        return response

    def _answer(self, path: str, request: Any) -> tuple[dict[str, Any], int]:
        base = f"https://{HOST}/organizations"
        if path == "openid-configuration":
            return {
                "token_endpoint": f"{base}/oauth2/v2.0/token",
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
                "issuer": f"{base}/v2.0",
            }, 200
        if path == "instance":
            names = {"preferred_network": HOST, "preferred_cache": HOST, "aliases": [HOST]}
            return {"tenant_discovery_endpoint": f"{base}/v2.0/.well-known", "metadata": [names]}, 200
        if path == "devicecode":
            return {
                "user_code": "ABCD1234",
                "device_code": "device-secret",
                "verification_uri": "https://microsoft.com/devicelogin",
                "expires_in": 900,
                "interval": 1,
                "message": "go",
            }, 200
        body = request.data if isinstance(request.data, str) else json.dumps(request.data)
        assert "grant_type" in (parse_qs(body) or request.data)
        outcome = self.polls.pop(0) if len(self.polls) > 1 else self.polls[0]
        return outcome, 400 if "error" in outcome else 200

    def open(self) -> None: ...
    def close(self) -> None: ...
    def sleep(self, duration: float) -> None: ...
    def __enter__(self) -> LoginHostTransport:
        return self

    def __exit__(self, *_: object) -> None: ...


PENDING = {"error": "authorization_pending", "error_description": "AADSTS70016: pending"}


def signed(username: str = "ada@example.com") -> dict[str, Any]:
    client_info = base64.urlsafe_b64encode(json.dumps({"uid": "u", "utid": TENANT}).encode()).decode()
    return {
        "access_token": "access-secret",
        "refresh_token": "refresh-secret",
        "foci": "1",
        "token_type": "Bearer",
        "expires_in": 3600,
        "scope": ARM_SCOPE,
        "client_info": client_info,
        "id_token": jwt(
            aud="04b07795-8ddb-461a-bbee-02f9e1bf7b46",
            iss=f"https://login.microsoftonline.com/{TENANT}/v2.0",
            tid=TENANT,
            sub="s",
            preferred_username=username,
        ),
    }


@pytest.fixture
def interactive_session(monkeypatch: pytest.MonkeyPatch) -> Callable[..., LoginHostTransport]:
    """An interactive session; ``interactive_session(*polls)`` sets the responses of the login host."""
    monkeypatch.setattr(sign_in, "can_prompt", lambda: True)
    quick = SimpleNamespace(time=time.time, sleep=lambda _: time.sleep(0.01))
    monkeypatch.setattr(oauth2, "time", quick)
    make = sign_in.make_credential

    def _use(*polls: dict[str, Any]) -> LoginHostTransport:
        host = LoginHostTransport(*polls)
        monkeypatch.setattr(sign_in, "make_credential", lambda *a: make(*a, transport=host))
        return host

    return _use


def test_a_code_is_shown_and_the_sign_in_serves_later_kernels(
    interactive_session: Any, tmp_path: Path
) -> None:
    host = interactive_session(PENDING)
    shown = call_at("ABCD1234", lambda: host.polls.append(signed()))
    who = sign_in.sign_in(shown)
    assert who.account == "ada@example.com"
    assert "Open https://microsoft.com/devicelogin and enter the code ABCD1234" in shown.lines
    assert shared_credential.credential().get_token(ARM_SCOPE).token == "access-secret"

    # another kernel: nothing in memory and no prompt
    host.sent.clear()
    later = SharedCredential(
        lambda: (
            CredentialSource("earlier sign-in", lambda: account_credential(read_account(), host), timeout=10),
        )
    )
    assert later.get_token(ARM_SCOPE).token == "access-secret"
    assert set(host.sent) <= {"openid-configuration"}
    record = record_path().read_text()
    assert tmp_path in record_path().parents
    assert "secret" not in record
    caches = [path for path in (tmp_path / ".IdentityService").iterdir() if "secret" in path.read_text()]
    assert caches
    assert {path.stat().st_mode & 0o777 for path in caches} == {0o600}


@pytest.mark.parametrize("stopped", [Cancelled, KeyboardInterrupt])
def test_cancel_ends_the_sign_in_and_a_code_entered_later_changes_nothing(
    interactive_session: Any, stopped: type[BaseException]
) -> None:
    host = interactive_session(PENDING)

    def stop() -> None:
        shown.cancel()
        if stopped is KeyboardInterrupt:
            raise KeyboardInterrupt

    shown = call_at("ABCD1234", stop)
    with pytest.raises(stopped):
        sign_in.sign_in(shown)
    host.polls[:] = [signed()]
    time.sleep(0.3)
    sent = len(host.sent)
    time.sleep(0.3)
    assert len(host.sent) == sent
    assert read_account() is None
    assert shared_credential.credential().source is None


@pytest.mark.parametrize("code", ["53003", "50199", "530033"])
def test_a_tenant_that_blocks_device_codes_is_reported(interactive_session: Any, code: str) -> None:
    interactive_session(
        {"error": "access_denied", "error_description": f"AADSTS{code}: Access has been blocked. Trace ID: 1"}
    )
    with pytest.raises(NotSignedIn) as caught:
        sign_in.sign_in(RecordingProgress())
    assert caught.value.message == f"Your tenant blocks signing in with a device code (AADSTS{code})."
    assert "az login" in caught.value.next_step
    assert caught.value.__dict__["code"] == f"AADSTS{code}"


def test_other_refusals_name_their_cause(interactive_session: Any) -> None:
    interactive_session({"error": "invalid_grant", "error_description": "AADSTS50105: long text of Azure"})
    with pytest.raises(NotSignedIn, match="not assigned to the application") as caught:
        sign_in.sign_in(RecordingProgress())
    assert "AADSTS50105" in str(caught.value)


def test_a_headless_run_never_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_in, "make_credential", lambda *_: pytest.fail("prompted all the same"))
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: False))
    with pytest.raises(NotSignedIn, match="this run is headless") as caught:
        sign_in.sign_in(RecordingProgress())
    assert "AZURE_CLIENT_SECRET" in caught.value.next_step


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({"JUPYTERHUB_USER": "ada", "DISPLAY": ":0"}, "JupyterHub"),
        ({"SSH_CONNECTION": "1 2 3 4", "DISPLAY": ":0"}, "SSH"),
        ({"CODESPACES": "true", "DISPLAY": ":0"}, "codespace"),
        ({}, "no screen|container"),
    ],
)
def test_a_browser_is_refused_if_it_cannot_reach_the_kernel(
    environment: dict[str, str], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_in, "can_prompt", lambda: True)
    monkeypatch.setattr(sign_in.os, "environ", environment)
    monkeypatch.setattr(sign_in, "why_no_browser", lambda _: original(environment, platform="linux"))
    with pytest.raises(NotSignedIn, match=why) as caught:
        sign_in.sign_in(RecordingProgress(), method="browser")
    assert "device-code" in caught.value.next_step


original = sign_in.why_no_browser


def test_a_local_kernel_may_use_the_browser() -> None:
    assert sign_in.why_no_browser({}, platform="darwin") is None
    assert sign_in.why_no_browser({}, platform="win32") is None


def test_no_call_of_the_sdk_prompts_for_a_code(interactive_session: Any) -> None:
    host = interactive_session(signed())
    sign_in.sign_in(RecordingProgress())
    host.polls[:] = [
        {"error": "invalid_grant", "error_description": "AADSTS700082: expired", "suberror": "x"}
    ]
    before = len(host.sent)
    with pytest.raises(
        NotSignedIn, match=r"sign-in by device-code: that sign-in has ended .AADSTS700082.; sign in again"
    ):
        shared_credential.credential().get_token("https://storage.azure.com/.default")
    assert "devicecode" not in host.sent[before:]
