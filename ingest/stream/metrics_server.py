"""The consumers' metrics over HTTP: one text for all who ask within a second, and few connections, none of which lasts.

Nobody shows a key here, and consumers need their files and their memory for something else.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from time import monotonic

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from recsys.errors import InvalidInput

CONNECTIONS = 32
"""At a time; one more ends the oldest of them."""
SECONDS = 5.0
"""For a connection from its begin to its end, whatever it does."""
MAX_HEAD = 16_384
"""Bytes of a request; it has no body."""
INTERVAL = 1.0
"""Seconds between two makings of the text."""
REFUSAL = b"HTTP/1.1 405 Method Not Allowed\r\nAllow: GET, HEAD\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@asynccontextmanager
async def metrics_server(host: str, port: int | None) -> AsyncIterator[None]:
    """Serve them for the length of the block; nothing without a port. Raises `InvalidInput` where nobody can listen."""
    if port is None:
        yield
        return
    readers = Readers()
    try:
        server = await asyncio.start_server(readers.answer, host, port, limit=MAX_HEAD)
    except OSError as error:
        raise InvalidInput("ingest.metrics_port", f"{port} cannot be listened on: {error}") from error
    try:
        yield
    finally:
        server.close()
        await readers.aclose()
        await server.wait_closed()


class Readers:
    """Whoever is connected; lives on the event loop."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._text = b""
        self._stale_at = -INTERVAL
        self._making = asyncio.Lock()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request, and the end of the connection."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        if len(self._tasks) >= CONNECTIONS:
            self._end(next(iter(self._tasks)))
        self._tasks[task] = writer
        try:
            with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                async with asyncio.timeout(SECONDS):
                    await self._exchange(reader, writer)
        except asyncio.CancelledError:
            # By us, for another's sake: asyncio would report it as an error.
            pass
        finally:
            self._end(task)

    async def aclose(self) -> None:
        """End every connection."""
        tasks = list(self._tasks)
        for task in tasks:
            self._end(task)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _end(self, task: asyncio.Task[None]) -> None:
        """At once, with what the peer has not read."""
        writer = self._tasks.pop(task, None)
        if writer is not None:
            writer.transport.abort()
            if task is not asyncio.current_task():
                task.cancel()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 1)[0]
        if method not in (b"GET", b"HEAD"):
            writer.write(REFUSAL)
        else:
            text = await self._current()
            head = f"HTTP/1.1 200 OK\r\nContent-Type: {CONTENT_TYPE_LATEST}\r\nContent-Length: {len(text)}\r\n"
            writer.write(f"{head}Connection: close\r\n\r\n".encode() + (text if method == b"GET" else b""))
        writer.write_eof()
        await writer.drain()
        # Until the peer has read all of it and closes, or its time is over: an abort throws away what is on the way.
        while await reader.read(MAX_HEAD):
            pass

    async def _current(self) -> bytes:
        async with self._making:
            if monotonic() >= self._stale_at:
                self._text = await asyncio.to_thread(generate_latest)
                self._stale_at = monotonic() + INTERVAL
            return self._text
