"""Bodies of requests, read as a whole; their sizes are bounded one by one and together. The server sets time limits."""

from contextlib import suppress

from starlette.types import Message, Receive
from starlette.types import Scope as Connection

from recsys.errors import Unavailable

RETRY_AFTER = 1.0
"""Seconds."""


class BodyTooLarge(Exception):
    """The request's body has more than `limit` bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit


class ClientGone(Exception):
    """The client closed the connection and does not wait for the answer."""


class Bodies:
    """The bodies of the requests under way in this process: at most `limit` bytes each, and `room` bytes together."""

    def __init__(self, limit: int, room: int) -> None:
        self.limit = limit
        self.room = room


class Body:
    """The body of a request; call `release` when the request is answered."""

    def __init__(self, bodies: Bodies, connection: Connection, receive: Receive) -> None:
        self._bodies = bodies
        self._connection = connection
        self._receive = receive
        self._held = 0
        self._read = False

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

    async def receive(self) -> Message:
        """An ASGI `receive` that gives the whole body as one message."""
        if self._read:
            return await self._receive()
        self._read = True
        return {"type": "http.request", "body": await self.read(), "more_body": False}

    def release(self) -> None:
        """Give the bytes held by this body back to the others."""
        self._bodies.room += self._held
        self._held = 0

    def _hold(self, size: int) -> None:
        if self._held + size > self._bodies.limit:
            raise BodyTooLarge(self._bodies.limit)
        if size > self._bodies.room:
            raise Unavailable("more bodies are being received than there is room for; try again", RETRY_AFTER)
        self._held += size
        self._bodies.room -= size


def declared_length(connection: Connection) -> int:
    """The value of `Content-Length`; 0 without one."""
    for name, value in connection["headers"]:
        if name == b"content-length":
            with suppress(ValueError):
                return int(value)
    return 0
