"""The origin check of a service without keys: only its own pages and those of `serve.cors_origins` may act on it.

A browser sends requests for any page to any address, loopback's too. With keys that does no harm, since no browser adds
a key by itself; without them the service goes by what a browser says of each request and no page can change.
"""

from collections.abc import Collection
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from app.http.callers import ANYBODY
from app.http.problems import problem_response
from app.http.schemas.events import Problem
from app.metrics import REFUSED

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})
FOREIGN_HOST = Problem(
    "Misdirected request",
    421,
    "without keys the service answers to loopback's names and to those of serve.allowed_hosts only; "
    "the Host header names something else",
)
FOREIGN_PAGE = Problem(
    "Not allowed",
    403,
    "without keys the service takes no requests from pages of other origins; "
    "serve.cors_origins lists those that may, or configure keys (make one with: millirec key)",
)
NOT_JSON = Problem(
    "Unsupported media type",
    415,
    "without keys a body has to come with the header Content-Type: application/json "
    "(curl: -H 'Content-Type: application/json', or --json in place of -d)",
)
REASONS = {403: "origin", 415: "media_type", 421: "host"}
"""For the metrics."""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on this address; of names, that is localhost."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


class OriginCheck:
    """ASGI. The Host header has to name this service, and a browser's request has to come from a page that may."""

    def __init__(self, app: ASGIApp, host: str, allowed_hosts: Collection[str], origins: Collection[str]) -> None:
        self._app = app
        self._names = LOOPBACK_NAMES | {host.lower(), *(name.lower() for name in allowed_hosts)}
        self._takes_addresses = not is_loopback(host)
        self._origins = frozenset(origin.rstrip("/").encode() for origin in origins)
        # Few names come again and again; the bound is for those who try many.
        self._names_us = lru_cache(maxsize=256)(self._is_ours)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        problem = self._problem(scope) if scope["type"] == "http" else None
        if problem is None:
            await self._app(scope, receive, send)
        else:
            await refuse(problem, scope, receive, send)

    def _problem(self, scope: Scope) -> Problem | None:
        host = origin = site = b""
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
            elif name == b"origin":
                origin = value
            elif name == b"sec-fetch-site":
                site = value
        if not self._names_us(host):
            return FOREIGN_HOST
        if origin:
            ours = host and _authority(origin) == host
            return None if ours or origin in self._origins else FOREIGN_PAGE
        return FOREIGN_PAGE if site in (b"cross-site", b"same-site") and not _follows_a_link(scope) else None

    def _is_ours(self, host: bytes) -> bool:
        """Whether the Host header names this service. A foreign name may come from DNS rebinding; an address cannot."""
        try:
            name = urlsplit(b"//" + host).hostname or b""
        except ValueError:
            return False
        text = name.decode("latin-1")
        return text in self._names or (self._takes_addresses and _is_address(text))


class JsonBodies:
    """ASGI. A body has to say that it is JSON, which a page of another origin may not send without asking first."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in BODILESS or _is_json(scope):
            await self._app(scope, receive, send)
        else:
            await refuse(NOT_JSON, scope, receive, send)


async def refuse(problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with `problem`, and count it."""
    REFUSED.labels(ANYBODY, REASONS[problem.status]).inc()
    await problem_response(problem)(scope, receive, send)


def _follows_a_link(scope: Scope) -> bool:
    """Whether a person navigates to a page of this service: the page that linked to it cannot read the answer."""
    headers = dict(scope["headers"])
    opens = headers.get(b"sec-fetch-mode") == b"navigate" and headers.get(b"sec-fetch-dest") == b"document"
    return opens and scope["method"] == "GET"


def _authority(origin: bytes) -> bytes:
    """Without the scheme, which a proxy that ends TLS changes; nothing where it is no page of a host: `null`."""
    scheme, _, authority = origin.partition(b"://")
    return authority if scheme in (b"http", b"https") else b""


def _is_address(text: str) -> bool:
    try:
        return bool(ip_address(text))
    except ValueError:
        return not text


def _is_json(scope: Scope) -> bool:
    """Whether the body is JSON, or there is none."""
    types: list[bytes] = []
    has_body = False
    for name, value in scope["headers"]:
        if name == b"content-type":
            types.append(value.partition(b";")[0].strip().lower())
        elif (name == b"content-length" and value.strip() != b"0") or name == b"transfer-encoding":
            has_body = True
    return not has_body or types == [b"application/json"]
