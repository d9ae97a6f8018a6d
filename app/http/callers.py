"""Callers: who sent a request, by its key; what they may do and how often."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from math import ceil
from time import perf_counter
from typing import Annotated

import structlog
from starlette.exceptions import HTTPException
from starlette.types import Scope as Connection

from app.metrics import REFUSED
from app.settings import NARROWED, ApiKey, Scope, ServeSettings

log = structlog.get_logger()
ANYBODY = "anonymous"
NO_LIMIT = 0.0
UNKNOWN_KEY = ("send a valid key in X-API-Key or as a bearer token", {"WWW-Authenticate": "Bearer"})
"""Detail and headers of a 401."""


@dataclass(frozen=True, slots=True)
class Needs:
    """Marks the parameter of a route that is the caller's name: a caller with any of `scopes`."""

    scopes: tuple[Scope, ...]


Recommending = Annotated[str, Needs((Scope.RECOMMEND,))]
Producing = Annotated[str, Needs((Scope.EVENTS,))]
Curating = Annotated[str, Needs((Scope.CATALOGUE,))]
ReadingItems = Annotated[str, Needs((Scope.CATALOGUE, Scope.ADMIN))]
CaringForUsers = Annotated[str, Needs((Scope.USERS, Scope.ADMIN))]
Administering = Annotated[str, Needs((Scope.ADMIN,))]


class RateLimit:
    """A token bucket, as one number: the moment at which it is full again."""

    __slots__ = ("_full_at", "_pause", "_room")

    def __init__(self, per_second: float, burst: int) -> None:
        self._pause = 1 / per_second
        self._room = (burst - 1) * self._pause
        self._full_at = 0.0

    def wait(self, now_seconds: float) -> float:
        """Take a token and return 0, or return the seconds until there is one; `now_seconds` by `perf_counter`."""
        full_at = max(self._full_at, now_seconds)
        if full_at - now_seconds > self._room:
            return full_at - now_seconds - self._room
        self._full_at = full_at + self._pause
        return NO_LIMIT


class Caller:
    """The holder of a configured key; without configured keys, all clients together."""

    __slots__ = ("_limit", "digest", "name", "scopes")

    def __init__(self, name: str, digest: str, scopes: frozenset[Scope], limit: RateLimit | None) -> None:
        self.name = name
        self.digest = digest
        self.scopes = scopes
        self._limit = limit

    def spend(self) -> None:
        """Count one request. Raises 429 if the caller is over its rate limit."""
        if self._limit is None:
            return
        seconds = self._limit.wait(perf_counter())
        if seconds:
            REFUSED.labels(self.name, "rate").inc()
            raise HTTPException(
                429, f"{self.name!r} sends more than its rate limit allows", {"Retry-After": str(ceil(seconds))}
            )


class Callers:
    """The callers that this process knows."""

    def __init__(self, serve: ServeSettings) -> None:
        self.keyed = tuple(Caller(key.name, key.sha256, key.scopes, _limit(key, serve)) for key in serve.keys)
        self.anybody = Caller(ANYBODY, "", frozenset(Scope), _limit(None, serve))

    @property
    def several(self) -> bool:
        """Whether keys are configured for more than one caller."""
        return len({caller.name for caller in self.keyed}) > 1

    def of(self, presented: bytes) -> Caller | None:
        """The caller with this key, if any. It takes equally long for right and wrong keys."""
        if not self.keyed:
            return self.anybody
        digest = sha256(presented).hexdigest()
        holder = None
        for caller in self.keyed:
            if compare_digest(digest, caller.digest):
                holder = caller
        return holder

    def admit(self, presented: bytes, scopes: Sequence[Scope]) -> Caller:
        """The caller with this key. Raises 401 for no valid key, 403 without any of `scopes`, 429 over the rate."""
        caller = self.of(presented)
        if caller is None:
            raise HTTPException(401, *UNKNOWN_KEY)
        if caller.scopes.isdisjoint(scopes):
            raise HTTPException(403, _scope_problem(caller, scopes))
        caller.spend()
        return caller

    def warn(self) -> None:
        """Log what an operator should know about the keys."""
        narrow = [caller.name for caller in self.keyed if caller.scopes == {Scope.EVENTS}]
        if not self.keyed:
            log.warning("authentication is off: no API keys are configured (make one with: millirec key)")
        elif narrow:
            log.warning(
                "the scope `events` opens POST /events alone; PUT /items needs `catalogue`, merging users `users`",
                keys=narrow,
            )


def _limit(key: ApiKey | None, serve: ServeSettings) -> RateLimit | None:
    per_second = (key and key.requests_per_second) or serve.requests_per_second
    if per_second is None:
        return None
    return RateLimit(per_second, (key and key.burst) or serve.burst or ceil(per_second))


def _scope_problem(caller: Caller, scopes: Sequence[Scope]) -> str:
    named = " or ".join(repr(scope.value) for scope in scopes)
    detail = f"the key of {caller.name!r} does not have the scope {named}"
    narrowed = Scope.EVENTS in caller.scopes and not NARROWED.isdisjoint(scopes)
    return f"{detail}, which 'events' no longer includes" if narrowed else detail


def presented_key(connection: Connection) -> bytes:
    """The key of a request: from `X-API-Key`, else the bearer token; empty without one."""
    token = b""
    for name, value in connection["headers"]:
        if name == b"x-api-key":
            if key := bytes(value).strip():
                return key
        elif name == b"authorization" and not token:
            kind, _, credentials = value.strip().partition(b" ")
            token = credentials.strip() if kind.lower() == b"bearer" else b""
    return token
