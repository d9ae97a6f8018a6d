"""The origin check of a service without keys: only its own pages and those of `serve.cors_origins` may act on it.

A browser sends requests for any page to any address, loopback's too. With keys that does no harm, since no browser adds
a key by itself; without them the service goes by what a browser says of each request and no page can change.
"""

from collections.abc import Collection
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.types import Scope

from app.http.callers import ANYBODY
from app.http.problems import problem_response
from app.http.response import WholeResponse
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
    """Refuses requests for other hosts, and those of a browser from a page that may not send them."""

    def __init__(self, host: str, allowed_hosts: Collection[str], origins: Collection[str]) -> None:
        self._names = LOOPBACK_NAMES | {host.lower(), *(name.lower() for name in allowed_hosts)}
        self._takes_addresses = not is_loopback(host)
        self._origins = frozenset(origin.rstrip("/").encode() for origin in origins)
        # Few names come again and again; the bound is for those who try many.
        self._names_us = lru_cache(maxsize=256)(self._is_ours)

    def refusal(self, scope: Scope) -> WholeResponse | None:
        """The response to a request that is refused, which is counted; `None` for one that may pass."""
        host = origin = site = b""
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
            elif name == b"origin":
                origin = value
            elif name == b"sec-fetch-site":
                site = value
        if not self._names_us(host):
            return _counted(FOREIGN_HOST)
        if origin:
            ours = host and _authority(origin) == host
            return None if ours or origin in self._origins else _counted(FOREIGN_PAGE)
        foreign = site in (b"cross-site", b"same-site") and not _follows_a_link(scope)
        return _counted(FOREIGN_PAGE) if foreign else None

    def _is_ours(self, host: bytes) -> bool:
        """Whether the Host header names this service. A foreign name may come from DNS rebinding; an address cannot."""
        try:
            name = urlsplit(b"//" + host).hostname or b""
        except ValueError:
            return False
        text = name.decode("latin-1")
        return text in self._names or (self._takes_addresses and _is_address(text))


def refusal_of_body(scope: Scope) -> WholeResponse | None:
    """The response, which is counted, to a body that does not say that it is JSON.

    A page of another origin may send no JSON without asking first.
    """
    return None if scope["method"] in BODILESS or _is_json(scope) else _counted(NOT_JSON)


def _counted(problem: Problem) -> WholeResponse:
    REFUSED.labels(ANYBODY, REASONS[problem.status]).inc()
    return problem_response(problem)


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
