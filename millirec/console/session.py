"""Who is logged in: keys stay in this process's memory, the browser holds a random name of them."""

import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import sha256
from time import monotonic

COOKIE = "millirec_console"


@dataclass(frozen=True, slots=True)
class Session:
    """One login. `key` is sent to the service for it; none where the service asks for no keys."""

    person: str
    key: str | None = field(repr=False)
    ends: float
    by_oidc: bool = False

    @property
    def over(self) -> bool:
        return monotonic() >= self.ends


class Sessions:
    """At most `limit` logins, each for `seconds`; whoever reads the memory of names finds only their hashes."""

    def __init__(self, seconds: float, limit: int) -> None:
        self._seconds = seconds
        self._limit = limit
        self._held: OrderedDict[bytes, Session] = OrderedDict()

    def open(self, person: str, key: str | None, *, by_oidc: bool = False) -> str:
        """Log a person in. Returns what the cookie holds."""
        name = secrets.token_urlsafe(32)
        self._held[_digest(name)] = Session(person, key, monotonic() + self._seconds, by_oidc)
        while len(self._held) > self._limit:
            self._held.popitem(last=False)
        return name

    def find(self, name: str | None) -> Session | None:
        """The login that a cookie names, unless it is over."""
        if not name:
            return None
        found = self._held.get(_digest(name))
        if found is not None and found.over:
            self.close(name)
            return None
        return found

    def close(self, name: str | None) -> None:
        """Log out. Harmless when nobody is logged in by that name."""
        if name:
            self._held.pop(_digest(name), None)


def _digest(name: str) -> bytes:
    return sha256(name.encode()).digest()
