"""The way into the page for people: a login, then Gradio, and nothing else."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from urllib.parse import parse_qs

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..openai_errors import ApiError
from ..threads import run_in_daemon
from .auth import COOKIE_SECONDS, ApiKeyAuth, LoginThrottle
from .engine_proxy import EngineProxy
from .login_pages import loading_page, login_page

log = logging.getLogger(__name__)

GRADIO_PATHS = re.compile(
    r"/(config|theme\.css|favicon\.ico|manifest\.json|(assets|static|svelte)/.+"
    r"|gradio_api/(startup-events|heartbeat/[\w-]+|queue/(join|data)|run/predict|cancel|reset|theme\.css))?/?"
)
"""What Gradio's page asks for. Its file, proxy, upload and API documentation paths stay shut."""

GRADIO_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; connect-src 'self'; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
"""Keeps every call on this server, whatever Gradio or a model's text would like to fetch."""

LOGIN_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'self'"
WRONG_KEY_DELAY = 0.5


class WebUi:
    """Serve the login at once, and the page behind it as soon as Gradio is imported.

    Importing Gradio takes seconds, and Gradio must be mounted before its application starts. So it gets
    an application of its own, which is built in a thread and started when it is complete.
    """

    def __init__(self, keys: ApiKeyAuth, gateway: EngineProxy) -> None:
        self._keys = keys
        self._gateway = gateway
        self._throttle = LoginThrottle()
        self._page: ASGIApp | None = None
        self._broken = False

    async def run(self) -> None:
        """Build and start the page; keep it until cancelled."""
        try:
            application = await run_in_daemon(self._build, "build page")
        except Exception as error:
            log.error("the page cannot be opened", exc_info=error)
            self._gateway.replica.note_error(f"the page cannot be opened: {error}")
            self._broken = True
            return
        async with application.router.lifespan_context(application):
            self._page = application
            log.info("the page is open")
            await asyncio.Event().wait()

    def _build(self) -> FastAPI:
        # Said before the import, which is when Gradio reads it.
        os.environ.update(GRADIO_ANALYTICS_ENABLED="False", GRADIO_RUN_HISTORY="False")
        from .gradio_app import build_gradio_app

        return build_gradio_app(self._gateway)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer whatever is not an API path."""
        if scope["type"] != "http":
            raise HTTPException(404)
        request = Request(scope, receive)
        response = await self._own_paths(request)
        if response is not None:
            await response(scope, receive, send)
        elif self._page is None:
            await _html(loading_page(self._broken), 503, {"Retry-After": "2"})(scope, receive, send)
        else:
            await self._page(scope, receive, _with_policy(send, GRADIO_POLICY))

    async def _own_paths(self, request: Request) -> Response | None:
        """Return our own answer, or None where the page's application shall answer."""
        path, method = request.url.path, request.method
        inside = self._keys.accept_cookie(_cookie(request, self._keys.cookie_name))
        if path == "/login" and method == "GET":
            return _go("./") if inside else _html(login_page())
        if path == "/login" and method == "POST":
            return await self._log_in(request)
        if path == "/logout" and method == "POST":
            response = _go("login")
            response.headers["Set-Cookie"] = self._set_cookie(request, "", 0)
            return response
        if not GRADIO_PATHS.fullmatch(path) or method not in ("GET", "HEAD", "POST"):
            raise HTTPException(404)
        if inside:
            return None
        if path == "/":
            return _go("login")
        return ApiError("Log in first.", status=401, code="login_required").response()

    async def _log_in(self, request: Request) -> Response:
        address = _address(request)
        if seconds := self._throttle.retry_after(address):
            text = f"Too many wrong keys. Try again in {seconds} seconds."
            return _html(login_page(text), 429, {"Retry-After": str(seconds)})
        content = bytearray()
        async for block in request.stream():
            content += block
            if len(content) > 4096:
                return _html(login_page("That is too long to be a key."), 413)
        key = parse_qs(content.decode(errors="replace")).get("key", [""])[0].strip()
        if not self._keys.accept(key):
            self._throttle.record_failure(address)
            await asyncio.sleep(WRONG_KEY_DELAY)
            return _html(login_page("This is not the key of this server."), 401)
        response = _go("./")
        response.headers["Set-Cookie"] = self._set_cookie(request, self._keys.cookie(), COOKIE_SECONDS)
        return response

    def _set_cookie(self, request: Request, value: str, seconds: int) -> str:
        secure = "; Secure" if request.url.scheme == "https" else ""
        return f"{self._keys.cookie_name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}"


def _address(request: Request) -> str:
    """Return who the ingress says is asking: the entry it added itself, since a client may send others."""
    forwarded = request.headers.getlist("x-forwarded-for")
    if forwarded:
        return forwarded[-1].rpartition(",")[2].strip()
    return request.client.host if request.client else ""


def _cookie(request: Request, name: str) -> str | None:
    """Return a cookie's value; a browser's other cookies may be anything."""
    for part in request.headers.get("cookie", "").split(";"):
        found, _, value = part.strip().partition("=")
        if found == name:
            return value
    return None


def _go(where: str) -> Response:
    """Redirect relatively: the host and prefix that a proxy shows stay the browser's business."""
    return RedirectResponse(where, 303, {"Cache-Control": "no-store"})


def _html(page: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    fixed = {
        "Content-Security-Policy": LOGIN_POLICY,
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
    }
    return HTMLResponse(page, status, {**fixed, **(headers or {})})


def _with_policy(send: Send, policy: str) -> Send:
    async def send_with_policy(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["Content-Security-Policy"] = policy
            headers["X-Content-Type-Options"] = "nosniff"
        await send(message)

    return send_with_policy
