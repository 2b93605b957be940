"""Interactive sign-in with a device code or in a browser, only on the user's request."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

from pydantic import Field

from nbtoolkit.azure.auth import shared_credential
from nbtoolkit.azure.auth.credential_sources import cache_options, failure_reason, write_account
from nbtoolkit.azure.auth.shared_credential import SignedIn
from nbtoolkit.azure.sdk import ARM_SCOPE, import_from
from nbtoolkit.errors import NotSignedIn, StoreError
from nbtoolkit.progress import PrintProgress, Progress
from nbtoolkit.settings import Settings
from nbtoolkit.utils.notebook import is_headless, notebook_kernel
from nbtoolkit.utils.threads import start_daemon

Method = Literal["device-code", "browser"]
CodePrompt = Callable[[str, str, datetime], None]
"""Called with the address to open, the code to enter there, and its expiry."""

# Error codes of tenants that block device codes, or require a registered device.
_POLICY = frozenset({"50199", "53000", "53001", "53002", "53003", "530032", "530033", "530034", "530035"})
_REASONS = {
    "50105": "Your account is not assigned to the application that signs in; an administrator must do that",
    "65001": "There is no consent for the application that signs in; an administrator must give it",
    "90072": "This account does not exist in that tenant",
    "90002": "There is no such tenant",
    "70020": "The code expired before it was used",
}
_REMOTE = {
    "JUPYTERHUB_USER": "it runs on a JupyterHub",
    "JUPYTERHUB_SERVICE_PREFIX": "it runs on a JupyterHub",
    "SSH_CONNECTION": "it runs on a machine reached by SSH",
    "SSH_CLIENT": "it runs on a machine reached by SSH",
    "CODESPACES": "it runs in a codespace",
    "COLAB_RELEASE_TAG": "it runs in Colab",
    "KUBERNETES_SERVICE_HOST": "it runs in Kubernetes",
    "REMOTE_CONTAINERS": "it runs in a container",
    "AZUREML_RUN_ID": "it runs in Azure ML",
}


class SignInSettings(Settings):
    """Settings of an interactive sign-in to Azure."""

    method: Method = Field(
        default="device-code", description="browser: only if this kernel runs on your own computer"
    )
    tenant: str = Field(default="", description="id or domain; blank: the account's own")


def blockers(settings: SignInSettings) -> list[str]:
    """Return why this method of signing in cannot work here; sends no request."""
    why = why_no_browser(os.environ) if settings.method == "browser" else None
    return [f"A browser cannot sign this kernel in: {why}. Choose device-code."] if why else []


def sign_in(
    progress: Progress | None = None,
    method: Method = "device-code",
    tenant: str | None = None,
    *,
    show_code: CodePrompt | None = None,
) -> SignedIn:
    """Sign in to Azure interactively, for this process and for later kernels of this user.

    Waits until the user has entered the code that ``progress`` shows (printed by default), at most the 15
    minutes that a code is valid; a cancel ends it. ``tenant`` is an id or a domain, by default the tenant
    of the account. ``show_code`` shows address and code instead of ``progress``. Raises
    :class:`NotSignedIn` in a run without a user, if the tenant refuses, and for ``"browser"`` if the kernel
    runs on another machine than the browser.
    """
    shared_credential.check_cloud(os.environ)
    if not can_prompt():
        raise _refused(
            "An interactive sign-in is not possible here: this run is headless.",
            "set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, or run az login before",
        )
    if method == "browser" and (why := why_no_browser(os.environ)):
        raise _refused(
            f"A browser cannot sign this kernel in: {why}.", 'sign in with a code: method="device-code"'
        )
    progress = progress or PrintProgress()
    record, credential = _authenticate(progress, method, tenant, show_code)
    shared_credential.credential().use(f"sign-in by {method}", credential)
    try:
        write_account(record)
    except StoreError as error:  # the sign-in is valid for this kernel
        progress.note(error.message)
    who = SignedIn(record.username, record.tenant_id, f"sign-in by {method}")
    progress.phase(f"Signed in as {who.account}")
    return who


def can_prompt() -> bool:
    """Return whether a user can be prompted: in a notebook, or in a terminal."""
    if notebook_kernel() is not None:
        return not is_headless()
    return sys.stdin is not None and sys.stdin.isatty()


def why_no_browser(environment: Mapping[str, str], platform: str = sys.platform) -> str | None:
    """Return why the user's browser cannot reach this kernel; None if it runs on their machine."""
    for name, text in _REMOTE.items():
        if environment.get(name):
            return text
    if platform.startswith("linux"):
        if Path("/.dockerenv").exists():
            return "it runs in a container"
        screens = ("DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME")
        if not any(environment.get(name) for name in screens):
            return "the machine has no screen"
    return None


def _authenticate(
    progress: Progress, method: Method, tenant: str | None, show_code: CodePrompt | None
) -> tuple[Any, Any]:
    """Return account record and credential: the SDK waits in a daemon thread, this one polls for a cancel."""
    codes: SimpleQueue[tuple[str, str, datetime]] = SimpleQueue()
    cancelled = threading.Event()
    progress.phase("Signing in to Azure")
    credential = make_credential(method, tenant, lambda *code: codes.put(code), cancelled.is_set)
    future = start_daemon(
        lambda: credential.authenticate(scopes=[ARM_SCOPE], enable_cae=True), name="sign-in"
    )
    if method == "browser":
        progress.phase("Sign in in the browser window that has opened")

    def ended() -> bool:
        if codes.empty():
            return future.done()
        address, code, until = codes.get()
        until = until if until.tzinfo else until.replace(tzinfo=UTC)
        if show_code is None:
            progress.phase(f"Open {address} and enter the code {code}")
            progress.note(f"the code is valid until {until.astimezone():%H:%M}")
        else:
            show_code(address, code, until)
            progress.phase("Waiting until the code is entered")
        return future.done()

    try:
        progress.wait_until(ended, interval=0.2)
        progress.check()
    except BaseException:  # a cancel, or an interrupt of the kernel
        cancelled.set()  # the SDK's next request fails, so a code entered later changes nothing
        raise
    if error := future.exception():
        raise sign_in_error(error, method, tenant) from error
    return future.result(), credential


def make_credential(
    method: Method,
    tenant: str | None,
    prompt: CodePrompt,
    is_cancelled: Callable[[], bool],
    transport: Any = None,
) -> Any:
    """Return the SDK's credential for an interactive sign-in.

    Once ``is_cancelled()`` is true it sends nothing. ``transport`` is the SDK's transport, None its default.
    """
    options: dict[str, Any] = {
        "disable_automatic_authentication": True,
        "cache_persistence_options": cache_options(),
        "transport": _StoppableTransport(
            transport or import_from("azure.core.pipeline.transport", "RequestsTransport")(), is_cancelled
        ),
    }
    if tenant:
        options["tenant_id"] = tenant
    if method == "browser":
        return import_from("azure.identity", "InteractiveBrowserCredential")(**options)
    return import_from("azure.identity", "DeviceCodeCredential")(prompt_callback=prompt, **options)


class _StoppableTransport:
    """A transport of the SDK that refuses to send once the sign-in was cancelled."""

    def __init__(self, inner: Any, is_cancelled: Callable[[], bool]) -> None:
        self._inner = inner
        self._is_cancelled = is_cancelled

    def send(self, request: Any, **options: Any) -> Any:
        if self._is_cancelled():
            raise import_from("azure.core.exceptions", "ClientAuthenticationError")(
                "The sign-in was cancelled."
            )
        return self._inner.send(request, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __enter__(self) -> _StoppableTransport:
        self._inner.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._inner.__exit__(*error)


def sign_in_error(error: BaseException, method: Method, tenant: str | None) -> NotSignedIn:
    """Return the error for a failed interactive sign-in, with cause and next step."""
    code = next(iter(re.findall(r"AADSTS(\d+)", str(error))), "")
    subject = f"The tenant {tenant}" if tenant else "Your tenant"
    if method == "device-code" and code in _POLICY:
        return _refused(
            f"{subject} blocks signing in with a device code (AADSTS{code}).",
            'run az login in a terminal, or use method="browser" if the kernel runs on your own computer',
            code=f"AADSTS{code}",
        )
    cause = _REASONS.get(code, failure_reason(error))
    return _refused(
        f"The sign-in failed: {cause}{f' (AADSTS{code})' if code and code not in cause else ''}.",
        "sign in again, with tenant=... if the account belongs to several tenants",
        code=f"AADSTS{code}" if code else "SignInFailed",
    )


def _refused(message: str, next_step: str, code: str = "SignInRefused") -> NotSignedIn:
    return NotSignedIn(message, next_step=next_step, status=401, code=code)
