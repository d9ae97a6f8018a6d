"""Head and body leave in one write, and whatever a server does besides, nothing is lost or late."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import httpx
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from app.server.joined_writes import JoinedWrites
from app.server.protocol import Protocol
from tests.environment.deployment import free_port
from tests.environment.waiting import wait_until

BODY = b"b" * 700


class Counting(asyncio.Transport):
    """A transport that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


async def test_writes_of_one_turn_are_one_and_those_of_the_next_another() -> None:
    transport = Counting()
    joined = JoinedWrites(transport, asyncio.get_running_loop())
    joined.write(b"head ")
    joined.write(b"body")
    assert transport.writes == []
    await wait_until(lambda: transport.writes == [b"head body"])
    joined.write(b"more")
    await wait_until(lambda: transport.writes == [b"head body", b"more"])


async def test_what_was_written_before_a_close_leaves_before_it_and_nothing_after() -> None:
    transport = Counting()
    joined = JoinedWrites(transport, asyncio.get_running_loop())
    joined.write(b"last words")
    joined.close()
    assert (transport.writes, transport.closed) == ([b"last words"], True)
    joined.write(b"too late")
    await asyncio.sleep(0)
    assert transport.writes == [b"last words"]


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    close = [(b"connection", b"close")] if scope["path"] == "/close" else []
    length = (b"content-length", b"%d" % len(BODY))
    await send({"type": "http.response.start", "status": 200, "headers": [length, *close]})
    if scope["path"] == "/slow":
        await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": BODY})


@asynccontextmanager
async def served() -> AsyncIterator[int]:
    port = free_port()
    # So typed because the server takes any protocol class.
    protocol = cast("Callable[..., asyncio.Protocol]", Protocol)
    config = uvicorn.Config(application, port=port, http=protocol, lifespan="off", log_level="warning", loop="uvloop")  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    await wait_until(lambda: server.started)
    try:
        yield port
    finally:
        server.should_exit = True
        await serving


@pytest.mark.parametrize("path", ["/", "/slow", "/close"])
async def test_answers_arrive_whole_whatever_their_kind(path: str) -> None:
    async with served() as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        for method, body in (("GET", BODY), ("HEAD", b""), ("GET", BODY)):
            response = await client.request(method, path)
            assert (response.status_code, response.content) == (200, body)


async def test_requests_sent_together_are_answered_in_order() -> None:
    async with served() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * 3)
        for _ in range(3):
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            assert head.startswith(b"HTTP/1.1 200")
            assert await asyncio.wait_for(reader.readexactly(len(BODY)), 10) == BODY
        writer.close()
        await writer.wait_closed()
