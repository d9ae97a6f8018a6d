"""WholeResponse: an answer in parts, as every entry of the edge returns it."""

import asyncio
from collections.abc import Sequence

import msgspec
from starlette.types import Receive, Scope, Send

Headers = list[tuple[bytes, bytes]]
Parts = Sequence[bytes | memoryview]
"""The body in parts, none of them empty unless it is the only one; sent one by one as the client reads."""
JSON = (b"content-type", b"application/json")
PROBLEM = "application/problem+json"
PROBLEM_TYPE = (b"content-type", PROBLEM.encode())


class WholeResponse:
    """An ASGI application that answers with a status, headers and the parts of a body; without a body to HEAD."""

    __slots__ = ("headers", "parts", "status")

    def __init__(self, status: int, headers: Headers, parts: Parts) -> None:
        self.status = status
        self.headers = headers
        self.parts = parts

    @property
    def body(self) -> bytes:
        """All parts together."""
        return b"".join(self.parts)

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return sum(map(len, self.parts))

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        for part in self.parts[:-1]:
            await send({"type": "http.response.body", "body": bytes(part), "more_body": True})
            # Copying is work too: other requests come in between.
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": bytes(self.parts[-1])})


def json_parts(parts: Sequence[bytes], status: int = 200) -> WholeResponse:
    """The response with JSON that is encoded already."""
    return WholeResponse(status, [JSON, (b"content-length", b"%d" % sum(map(len, parts)))], parts)


def json_response(body: object, status: int = 200) -> WholeResponse:
    """The response with `body` as JSON."""
    content = msgspec.json.encode(body)
    return WholeResponse(status, [JSON, (b"content-length", b"%d" % len(content))], (content,))
