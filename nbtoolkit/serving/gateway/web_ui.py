"""The web UI: a login form, and the Gradio application behind it."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from html import escape
from urllib.parse import parse_qs

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..openai_format import ApiError
from ..threads import paused_gc, run_in_daemon
from .auth import COOKIE_SECONDS, ApiKeyAuth, LoginThrottle
from .engine_proxy import EngineProxy

log = logging.getLogger(__name__)

GRADIO_PATHS = re.compile(
    r"/(config|theme\.css|favicon\.ico|manifest\.json|(assets|static|svelte)/.+"
    r"|gradio_api/(startup-events|heartbeat/[\w-]+|queue/(join|data)|run/predict|cancel|reset|theme\.css))?/?"
)
"""Paths that Gradio's front end needs. File, proxy, upload and API documentation paths return 404."""

GRADIO_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; connect-src 'self'; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
"""Allows requests to this server only, for Gradio and for markup in a model's text."""

LOGIN_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'self'"
WRONG_KEY_DELAY = 0.5

_STYLE = """
:root{color-scheme:light dark;--ground:#f5f6f8;--card:#fff;--ink:#171a21;--soft:#5b6472;--line:#d5dae2;
--accent:#2f5bd8;--accent-ink:#fff;--bad:#b3261e;--bad-ground:#fdecea}
@media(prefers-color-scheme:dark){:root{--ground:#101319;--card:#181c24;--ink:#e9ecf2;--soft:#9aa4b4;
--line:#323a47;--accent:#7d9bff;--accent-ink:#0d1220;--bad:#ffb4ab;--bad-ground:#3b1d1b}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;display:grid;place-items:center;padding:1.5rem;background:var(--ground);
color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{width:100%;max-width:25rem;padding:2.25rem 2rem 2rem;background:var(--card);border:1px solid var(--line);
border-radius:14px;box-shadow:0 10px 30px rgb(15 23 42/.07)}
.name{margin:0 0 1.5rem;font-size:.9rem;font-weight:600;color:var(--soft)}
h1{margin:0 0 .4rem;font-size:1.45rem;line-height:1.25}
p{margin:0 0 1.4rem;color:var(--soft)}
label{display:block;margin-bottom:.4rem;font-weight:600;font-size:.92rem}
input{width:100%;padding:.7rem .8rem;font:inherit;color:inherit;background:var(--ground);
border:1px solid var(--line);border-radius:9px}
input[aria-invalid]{border-color:var(--bad)}
button{width:100%;margin-top:1.1rem;padding:.72rem;font:inherit;font-weight:600;cursor:pointer;
color:var(--accent-ink);background:var(--accent);border:0;border-radius:9px}
button:hover{filter:brightness(1.08)}
:focus-visible{outline:3px solid var(--accent);outline-offset:2px}
.error{margin:.7rem 0 0;padding:.6rem .8rem;color:var(--bad);background:var(--bad-ground);border-radius:9px;
font-size:.92rem}
code{font-size:.92em}
"""


class WebUi:
    """Serve the login at once, and Gradio as soon as it is imported.

    Importing Gradio takes seconds, and Gradio must be mounted before its application starts. So it gets
    its own application, which is built in a thread and started when it is complete.
    """

    def __init__(self, auth: ApiKeyAuth, proxy: EngineProxy) -> None:
        self._auth = auth
        self._proxy = proxy
        self._throttle = LoginThrottle()
        self._gradio: ASGIApp | None = None
        self._failed = False

    async def run(self) -> None:
        """Build and start the Gradio application; run it until cancelled."""
        try:
            application = await run_in_daemon(self._build, "build page")
        except Exception as error:
            log.error("the chat UI cannot be started", exc_info=error)
            self._proxy.replica.note_error(f"the chat UI cannot be started: {error}")
            self._failed = True
            return
        async with application.router.lifespan_context(application):
            self._gradio = application
            log.info("the chat UI is ready")
            await asyncio.Event().wait()

    def _build(self) -> FastAPI:
        # Before the import, which reads these variables.
        os.environ.update(GRADIO_ANALYTICS_ENABLED="False", GRADIO_RUN_HISTORY="False")
        with paused_gc():
            from .gradio_app import build_gradio_app

        return build_gradio_app(self._proxy, self._auth.accept)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to every path that is not part of the API."""
        if scope["type"] != "http":
            raise HTTPException(404)
        request = Request(scope, receive)
        response = await self._login_response(request)
        if response is not None:
            await response(scope, receive, send)
        elif self._gradio is None:
            await _loading_page(self._failed)(scope, receive, send)
        else:
            await self._gradio(scope, receive, _with_policy(send, GRADIO_POLICY))

    async def _login_response(self, request: Request) -> Response | None:
        """Return the response for login, logout and refused paths; None if Gradio must respond."""
        path, method = request.url.path, request.method
        logged_in = self._auth.accept_cookie(request.cookies.get(self._auth.cookie_name))
        if path == "/login" and method == "GET":
            return _redirect("./") if logged_in else _login_page()
        if path == "/login" and method == "POST":
            return await self._log_in(request)
        if path == "/logout" and method == "POST":
            response = _redirect("login")
            response.headers["Set-Cookie"] = self._set_cookie(request, "", 0)
            return response
        if not GRADIO_PATHS.fullmatch(path) or method not in ("GET", "HEAD", "POST"):
            raise HTTPException(404)
        if logged_in:
            return None
        if path == "/":
            return _redirect("login")
        return ApiError("Log in first.", status=401, code="login_required").response()

    async def _log_in(self, request: Request) -> Response:
        address = _address(request)
        if seconds := self._throttle.retry_after(address):
            text = f"Too many wrong keys. Try again in {seconds} seconds."
            return _login_page(text, 429, {"Retry-After": str(seconds)})
        content = bytearray()
        async for block in request.stream():
            content += block
            if len(content) > 4096:
                return _login_page("That is too long to be a key.", 413)
        key = parse_qs(content.decode(errors="replace")).get("key", [""])[0].strip()
        if not self._auth.accept(key):
            self._throttle.record_failure(address)
            await asyncio.sleep(WRONG_KEY_DELAY)
            return _login_page("This is not the key of this server.", 401)
        response = _redirect("./")
        response.headers["Set-Cookie"] = self._set_cookie(request, self._auth.cookie(), COOKIE_SECONDS)
        return response

    def _set_cookie(self, request: Request, value: str, seconds: int) -> str:
        secure = "; Secure" if request.url.scheme == "https" else ""
        return f"{self._auth.cookie_name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}"


def _address(request: Request) -> str:
    """Return the client address that the ingress added last; earlier entries may come from the client."""
    forwarded = request.headers.getlist("x-forwarded-for")
    if forwarded:
        return forwarded[-1].rpartition(",")[2].strip()
    return request.client.host if request.client else ""


def _login_page(error: str = "", status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return the login form, with an error below the field if there is one."""
    invalid = ' aria-invalid="true" aria-describedby="error"' if error else ""
    note = f'<p class="error" id="error" role="alert">{escape(error)}</p>' if error else ""
    body = f"""<h1>Log in</h1>
<p>Chat with the model on this server.</p>
<form method="post" action="login">
<label for="key">API key</label>
<input id="key" name="key" type="password" required autofocus autocomplete="current-password"{invalid}>
{note}<button>Log in</button>
</form>"""
    return _page("Log in", body, status, headers)


def _loading_page(broken: bool) -> Response:
    """Return the page shown for the seconds until Gradio has started; it reloads itself."""
    title, refresh = "Opening", '<meta http-equiv="refresh" content="2">'
    body = "<h1>Opening the chat</h1><p>The page is being prepared. This takes a few seconds.</p>"
    if broken:
        title, refresh = "No page", ""
        body = (
            "<h1>No chat page</h1><p>The API of this server works, but the chat page could not be built. "
            "See the log for the reason.</p>"
        )
    return _page(title, body, 503, {"Retry-After": "2"}, refresh)


def _page(
    title: str, body: str, status: int, headers: dict[str, str] | None = None, head: str = ""
) -> Response:
    content = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<title>{escape(title)} · nbtoolkit</title>{head}<style>{_STYLE}</style></head>
<body><main><div class="name">nbtoolkit</div>{body}</main></body></html>"""
    fixed = {
        "Content-Security-Policy": LOGIN_POLICY,
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
    }
    return HTMLResponse(content, status, {**fixed, **(headers or {})})


def _redirect(path: str) -> Response:
    """Redirect to a relative path, which works behind any host name and prefix of a proxy."""
    return RedirectResponse(path, 303, {"Cache-Control": "no-store"})


def _with_policy(send: Send, policy: str) -> Send:
    async def send_with_policy(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["Content-Security-Policy"] = policy
            headers["X-Content-Type-Options"] = "nosniff"
        await send(message)

    return send_with_policy
