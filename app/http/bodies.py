"""Bodies of requests, read as a whole; their sizes are bounded one by one and together. The server sets time limits."""

from collections import Counter
from contextlib import suppress

from starlette.types import Receive
from starlette.types import Scope as Connection

from app.http.turns import CALLER
from recsys.errors import Unavailable

RETRY_AFTER = 1.0
"""Seconds."""
RESERVE = 4
"""One byte of the room in so many is for callers with less than their share."""


class BodyTooLarge(Exception):
    """The request's body has more than `limit` bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit


class ClientGone(Exception):
    """The client closed the connection and does not wait for the answer."""


class Bodies:
    """Those of the requests under way in this process: each of `limit` bytes at most, together of `room`.

    Where there are several callers, the last quarter of the room is for those with less than a fair share: of n callers
    with bodies here, each has a share of 1/(n + 1), so that there is room for a newcomer.
    """

    def __init__(self, limit: int, room: int, *, shared: bool = False) -> None:
        self.limit = limit
        self._room = self._free = room
        self._reserve = room // RESERVE if shared else 0
        self._held: Counter[str] = Counter()

    def take(self, caller: str, size: int) -> None:
        """Raises `Unavailable` where there is no room, or none for this caller."""
        free = self._free - size
        over_share = self._held[caller] + size > self._room // (len(self._held) + 1)
        if free < 0 or (free < self._reserve and over_share):
            raise Unavailable("more bodies are being received than there is room for; try again", RETRY_AFTER)
        self._free = free
        self._held[caller] += size

    def give_back(self, caller: str, size: int) -> None:
        """Return `size` bytes that `caller` took."""
        self._free += size
        self._held[caller] -= size
        if not self._held[caller]:
            del self._held[caller]


class Body:
    """The body of a request; call `release` when the request is answered."""

    def __init__(self, bodies: Bodies, connection: Connection, receive: Receive) -> None:
        self._bodies = bodies
        self._connection = connection
        self._receive = receive
        self._held = 0
        self._caller = ""

    async def read(self) -> bytes:
        """The whole body. Raises `BodyTooLarge` (at once, if Content-Length says so), `Unavailable`, `ClientGone`."""
        if declared_length(self._connection) > self._bodies.limit:
            raise BodyTooLarge(self._bodies.limit)
        parts: list[bytes] = []
        more_body = True
        while more_body:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            parts.append(message.get("body", b""))
            self._hold(len(parts[-1]))
            more_body = message.get("more_body", False)
        return b"".join(parts)

    def release(self) -> None:
        """Give back the bytes that this body takes up."""
        if self._held:
            self._bodies.give_back(self._caller, self._held)
            self._held = 0

    def _hold(self, size: int) -> None:
        if self._held + size > self._bodies.limit:
            raise BodyTooLarge(self._bodies.limit)
        if size:
            self._caller = self._connection.get(CALLER, "")
            self._bodies.take(self._caller, size)
            self._held += size


def declared_length(connection: Connection) -> int:
    """The value of `Content-Length`; 0 without one."""
    for name, value in connection["headers"]:
        if name == b"content-length":
            with suppress(ValueError):
                return int(value)
    return 0
