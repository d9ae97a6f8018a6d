"""A client that records every latency with its time and status, for statistics over parts of a run."""

import asyncio
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

BROKEN = 0
"""Stands for the status of a request that got no answer."""


@dataclass(slots=True)
class Record:
    """One entry per request: seconds since the start, milliseconds to the answer, status."""

    began: float = field(default_factory=perf_counter)
    times: list[float] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    def add(self, sent_at: float, status: int) -> None:
        """Record the answer to a request sent at `sent_at`, by `perf_counter`."""
        ended_at = perf_counter()
        self.times.append(ended_at - self.began)
        self.milliseconds.append((ended_at - sent_at) * 1e3)
        self.statuses.append(status)

    def failed(self) -> int:
        """The number of requests without status 200."""
        return sum(status != 200 for status in self.statuses)

    def percentile(self, percent: float, start: float = 0.0, end: float = float("inf")) -> float:
        """A percentile of latencies in milliseconds, of requests answered with 200 between two times in seconds."""
        times, values = np.array(self.times), np.array(self.milliseconds)
        inside: NDArray[np.bool_] = (times >= start) & (times < end) & (np.array(self.statuses) == 200)
        return float(np.percentile(values[inside], percent)) if inside.any() else float("nan")


@contextmanager
def asking(url: str, *, users: int, key: str, connections: int, placement: str) -> Iterator[Record]:
    """GET /recommend for random users over keep-alive connections, one after the other, until the block ends."""
    record, ended = Record(), threading.Event()
    address = urlsplit(url)
    assert address.hostname is not None
    assert address.port is not None
    host, port = address.hostname, address.port

    async def ask_repeatedly() -> None:
        """Send requests over one connection until the end."""
        reader, writer = await asyncio.open_connection(host, port)
        try:
            while not ended.is_set():
                path = f"/recommend?k=10&user_id=user-{random.randrange(users)}&placement={placement}"
                sent_at = perf_counter()
                try:
                    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {key}\r\n\r\n".encode())
                    status = await _answer(reader)
                except (OSError, asyncio.IncompleteReadError):
                    record.add(sent_at, BROKEN)
                    writer.close()
                    reader, writer = await asyncio.open_connection(host, port)
                else:
                    record.add(sent_at, status)
        finally:
            writer.close()

    async def ask_on_all() -> None:
        """Ask over all connections at the same time."""
        await asyncio.gather(*(ask_repeatedly() for _ in range(connections)))

    thread = threading.Thread(target=lambda: asyncio.run(ask_on_all()))
    thread.start()
    try:
        yield record
    finally:
        ended.set()
        thread.join()


async def _answer(reader: asyncio.StreamReader) -> int:
    """The status of the next response; its body is skipped."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    await reader.readexactly(int(length))
    return int(head[9:12])
