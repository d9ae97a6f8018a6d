"""The consumers' metrics, and their server: one text for all who ask within a second, few connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from time import monotonic

from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest

from recsys.errors import InvalidInput
from recsys.observability import unreadable

FRESHNESS_BUCKETS = (
    *(0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7),
    *(1, 1.5, 2, 3, 5, 7, 10, 30, 60, 300, 3600),
)
"""Fine from a millisecond to ten seconds, where the promises lie; above it only how bad it is."""
BATCH_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)

MESSAGES = Counter(
    "millirec_consumed_messages",
    "Messages done with: applied, repeated (done with before) or rejected",
    ["group", "outcome"],
)
BATCH_SECONDS = Histogram("millirec_batch_seconds", "Time to apply a batch", ["group"], buckets=BATCH_BUCKETS)
LAG = Gauge("millirec_consumer_lag", "Messages not committed yet", ["group", "partition"])
WATERMARK_AHEAD = Gauge(
    "millirec_watermark_ahead",
    "1 while the topic is behind what a group has done: its new messages are taken for repeats",
    ["group", "partition"],
)
FRESHNESS = Histogram(
    "millirec_freshness_seconds", "From an event's acknowledgement to its effect", ["group"], buckets=FRESHNESS_BUCKETS
)
DEAD_LETTERS = Counter("millirec_dead_letters", "Messages refused, by the field that was wrong", ["field"])
DEAD_LETTERS_WAITING = Gauge("millirec_dead_letters_waiting", "Dead letters neither replayed nor discarded")
MISKEYED = Counter(
    "millirec_miskeyed_messages", "Messages whose key is not their user or item: they stand in no order", ["group"]
)
UNREADABLE_RECORDS = unreadable.UNREADABLE_RECORDS
RETRIES = Counter("millirec_consumer_retries", "Waits for a system that was not available", ["group", "system"])
FOLD_IN_SECONDS = Histogram("millirec_fold_in_seconds", "Time to fold a batch into one version", buckets=BATCH_BUCKETS)
IN_SERVICE = Gauge("millirec_folding_version_info", "1 for a version that events are folded into", ["version"])


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
