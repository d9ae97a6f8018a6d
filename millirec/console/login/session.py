"""Sessions: keys stay in this process's memory, the browser holds a random id of its session."""

import hmac
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import sha256
from time import monotonic

COOKIE = "millirec_console"
OPEN = "open"
"""Beginning of the name of a login without a key."""
NOBODY = "without a key"


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
    """At most `limit` logins, each for `seconds`; whoever reads the memory of names finds only their hashes.

    Where nobody needs a key anybody may log in without end: those logins are in their signed names alone, take no room,
    and so end nobody else's.
    """

    def __init__(self, seconds: float, limit: int) -> None:
        self._secret = secrets.token_bytes(32)
        self._closed: OrderedDict[bytes, None] = OrderedDict()
        self._seconds = seconds
        self._limit = limit
        self._held: OrderedDict[bytes, Session] = OrderedDict()

    def open(self, person: str, key: str | None, *, by_oidc: bool = False) -> str:
        """Log a person in. Returns what the cookie holds."""
        if key is None and not by_oidc:
            return self._signed(f"{OPEN}.{int(1000 * (monotonic() + self._seconds))}.{secrets.token_urlsafe(16)}")
        name = secrets.token_urlsafe(32)
        self._held[_digest(name)] = Session(person, key, monotonic() + self._seconds, by_oidc)
        while len(self._held) > self._limit:
            self._held.popitem(last=False)
        return name

    def find(self, name: str | None) -> Session | None:
        """Return the session of a cookie's id, None when there is none or it is over."""
        if not name:
            return None
        if name.startswith(OPEN + "."):
            return self._opened(name)
        session = self._held.get(_digest(name))
        if session is not None and session.over:
            self.close(name)
            return None
        return session

    def close(self, name: str | None) -> None:
        """Log out. Harmless when nobody is logged in by that name."""
        if not name:
            return
        self._held.pop(_digest(name), None)
        if self._opened(name):
            self._closed[_digest(name)] = None
            if len(self._closed) > self._limit:
                self._closed.popitem(last=False)

    def _signed(self, text: str) -> str:
        return f"{text}.{hmac.digest(self._secret, text.encode(), 'sha256').hex()}"

    def _opened(self, name: str) -> Session | None:
        """The login that is in the name, if it is one of ours and not over."""
        text, _, _ = name.rpartition(".")
        if (
            not name.isascii()
            or not name.startswith(OPEN + ".")
            or not hmac.compare_digest(name.encode(), self._signed(text).encode())
        ):
            return None
        session = Session(NOBODY, None, int(text.split(".")[1]) / 1000)
        return None if session.over or _digest(name) in self._closed else session


def _digest(name: str) -> bytes:
    return sha256(name.encode()).digest()
