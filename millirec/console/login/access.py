"""Access control before every page: who may use the console, from which origin, with which headers."""

from collections.abc import Collection, Mapping
from pathlib import Path
from urllib.parse import SplitResult, quote, urlsplit

import nicegui
from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import FileResponse, PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from millirec.console.login import login, oidc
from millirec.console.login.session import COOKIE, Sessions

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
ENTRANCE_PATHS = frozenset({"/login", "/oidc/login", "/oidc/callback", "/health", "/favicon.ico"})
"""Paths that need no session; the entrance answers them."""
FILES = "/_nicegui/"
"""Scripts and styles."""
CONTENT_POLICY = "; ".join(
    (
        "default-src 'self'",
        # Vue compiles its templates in the browser, and NiceGUI writes the page's elements into a script.
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: https:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'self'",
    )
)
ENTRANCE_POLICY = "; ".join(
    (
        "default-src 'none'",
        "style-src 'unsafe-inline'",
        "img-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'self'",
    )
)
"""Pages without a script."""
HEADERS = {
    "content-security-policy": CONTENT_POLICY,
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}
ENTRANCE_HEADERS = {**HEADERS, "content-security-policy": ENTRANCE_POLICY}


class AccessControl:
    """ASGI application. A web socket or a change must come from a page of this host, and from a session.

    Without a session only the `entrance` is reachable: `pages`, where NiceGUI is, draws a page even for an error.
    """

    def __init__(
        self, pages: ASGIApp, entrance: ASGIApp, sessions: Sessions, host: str, origins: Collection[str]
    ) -> None:
        self._pages = pages
        self._entrance = entrance
        self._sessions = sessions
        self._origins = frozenset(origin.rstrip("/") for origin in origins)
        self._only_loopback = host in LOOPBACK

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._pages(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        if not self._expected_host(connection.headers):
            await _refuse(scope, receive, send, 421, "this console does not answer to that host name")
        elif not self._own_origin(scope, connection.headers):
            await _refuse(scope, receive, send, 403, "this request did not come from a page of this console")
        elif scope["type"] == "http" and scope["path"] in ENTRANCE_PATHS:
            await self._entrance(scope, receive, _with_headers(ENTRANCE_HEADERS, send))
        elif self._sessions.find(connection.cookies.get(COOKIE)):
            await self._show(scope, receive, _with_headers(_headers_of(scope["path"]), send))
        elif scope["type"] == "http" and scope["method"] == "GET" and not scope["path"].startswith("/_nicegui"):
            target = scope["path"] + ("?" + scope["query_string"].decode("latin-1") if scope["query_string"] else "")
            await RedirectResponse("/login?next=" + quote(target, safe=""), 303, ENTRANCE_HEADERS)(scope, receive, send)
        else:
            await _refuse(scope, receive, send, 401, "log in first")

    async def _show(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._pages(scope, receive, send)
        except RuntimeError as error:
            # Starlette raises this when the browser left before the page was ready; it is no error.
            if str(error) != "No response returned.":
                raise

    def _expected_host(self, headers: Headers) -> bool:
        """Return whether the host is allowed: on loopback only loopback's names, against DNS rebinding."""
        if not self._only_loopback:
            return True
        host = headers.get("host", "")
        return _split(f"//{host}").hostname in LOOPBACK or any(
            urlsplit(origin).netloc == host for origin in self._origins
        )

    def _own_origin(self, scope: Scope, headers: Headers) -> bool:
        origin = headers.get("origin")
        if origin is None:
            return scope["type"] == "http" and scope["method"] in SAFE_METHODS
        return origin in self._origins or _split(origin).netloc == headers.get("host")


def _split(url: str) -> SplitResult:
    """The parts of what a stranger calls a URL, of which there are none where it is not."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def _headers_of(path: str) -> Mapping[str, str]:
    # Files carry their version in the path and may be kept; pages may not.
    return HEADERS if not path.startswith(FILES) else {n: value for n, value in HEADERS.items() if n != "cache-control"}


def _with_headers(added: Mapping[str, str], send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        """Send a message, with the headers added to the start of the answer."""
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in added.items():
                headers[name] = value
        await send(message)

    return send_with_headers


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, reason: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": reason})
        return
    await PlainTextResponse(reason, status, ENTRANCE_HEADERS)(scope, receive, send)


ICON = Path(nicegui.__file__).parent / "static" / "favicon.ico"


def create_entrance(entering: login.Login) -> FastAPI:
    """Build the application for people who are not logged in."""
    app = FastAPI(title="millirec console", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.include_router(login.routes(entering))
    app.include_router(oidc.routes(entering))

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Say that the console runs."""
        return {"status": "alive"}

    @app.get("/favicon.ico")
    async def icon() -> FileResponse:
        """Return the icon of the page."""
        return FileResponse(ICON)

    return app
