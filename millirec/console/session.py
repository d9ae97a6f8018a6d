"""Sessions: keys stay in this process's memory, the browser holds a random id of its session."""

import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import sha256
from time import monotonic

COOKIE = "millirec_console"


@dataclass(frozen=True, slots=True)
class Session:
    """One login. `key` is sent to the service; None where the service requires no keys."""

    person: str
    key: str | None = field(repr=False)
    ends: float
    by_oidc: bool = False

    @property
    def over(self) -> bool:
        """Whether the session has ended."""
        return monotonic() >= self.ends


class Sessions:
    """At most `limit` sessions, each for `seconds`; memory holds only hashes of their ids."""

    def __init__(self, seconds: float, limit: int) -> None:
        self._seconds = seconds
        self._limit = limit
        self._held: OrderedDict[bytes, Session] = OrderedDict()

    def open(self, person: str, key: str | None, *, by_oidc: bool = False) -> str:
        """Log a person in. Returns the id for the cookie."""
        name = secrets.token_urlsafe(32)
        self._held[_digest(name)] = Session(person, key, monotonic() + self._seconds, by_oidc)
        while len(self._held) > self._limit:
            self._held.popitem(last=False)
        return name

    def find(self, name: str | None) -> Session | None:
        """Return the session of a cookie's id, None when there is none or it is over."""
        if not name:
            return None
        session = self._held.get(_digest(name))
        if session is not None and session.over:
            self.close(name)
            return None
        return session

    def close(self, name: str | None) -> None:
        """Log out; nothing happens when there is no such session."""
        if name:
            self._held.pop(_digest(name), None)


def _digest(name: str) -> bytes:
    return sha256(name.encode()).digest()
