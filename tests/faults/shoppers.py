"""Clients that never pause for long: keep-alive connections in a thread, every answer and every failure on record."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from time import monotonic
from urllib.parse import urlsplit

import numpy as np

from tests.environment.waiting import wait_until_sync

PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Reply:
    """One request: begun at `at` (monotonic seconds), what came back after `seconds`."""

    at: float
    seconds: float
    status: int
    user: str
    fallback_level: str = ""
    degraded: bool = False


@dataclass
class Shoppers:
    """GET /recommend for each of `users` in turn on so many connections, `pause` seconds between two requests.

    `refused` counts connections that could not be made, `failures` requests that were sent and not answered.
    """

    url: str
    users: Sequence[str]
    connections: int = 4
    pause: float = 0.005
    path: str = "/recommend?k=5&user_id="
    answers: list[Reply] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    refused: int = 0
    shopping_on: Callable[[], bool] = lambda: True
    _ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        asyncio.run(self._shop())

    def end(self) -> None:
        self._ended.set()

    def go_on(self, requests: int = 100) -> list[Reply]:
        """Wait until so many more were answered; those."""
        start = len(self.answers)
        wait_until_sync(lambda: len(self.answers) >= start + requests, 30.0)
        return self.answers[start:]

    def until(self, wanted: Callable[[Reply], bool], timeout: float = 30.0) -> float:
        """Wait for answers to every user, one after the other, that are as wanted; the seconds it took."""
        began, start = monotonic(), len(self.answers)

        def there() -> bool:
            newest = {one.user: one for one in self.answers[start:] if one.at >= began}
            return newest.keys() == set(self.users) and all(map(wanted, newest.values()))

        wait_until_sync(there, timeout)
        return monotonic() - began

    @property
    def statuses(self) -> Counter[int]:
        return Counter(one.status for one in self.answers)

    async def _shop(self) -> None:
        await asyncio.gather(*(self._buy(count(place)) for place in range(self.connections)))

    async def _buy(self, places: Iterator[int]) -> None:
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        address = urlsplit(self.url)
        while not self._ended.is_set():
            if not self.shopping_on():
                await asyncio.sleep(0.01)
                continue
            if connection is None:
                try:
                    connection = await asyncio.open_connection(address.hostname, address.port)
                except OSError:
                    self.refused += 1
                    await asyncio.sleep(0.05)
                    continue
            try:
                async with asyncio.timeout(PATIENCE):
                    keep = await self._ask(connection, self.users[next(places) % len(self.users)])
            except (OSError, EOFError, TimeoutError) as error:
                self.failures.append(repr(error))
                keep = False
            if not keep and connection is not None:
                connection[1].close()
                connection = None
            await asyncio.sleep(self.pause)
        if connection is not None:
            connection[1].close()

    async def _ask(self, connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], user: str) -> bool:
        """Return whether the connection may be used again."""
        reader, writer = connection
        began = monotonic()
        writer.write(f"GET {self.path}{user} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        content = await reader.readexactly(int(headers["content-length"]))
        seconds, status = monotonic() - began, int(head.split(" ", 2)[1])
        body = json.loads(content) if status == 200 else {}
        fallback_level, degraded = body.get("fallback_level", ""), body.get("degraded", False)
        self.answers.append(Reply(began, seconds, status, user, fallback_level, degraded))
        return headers.get("connection") != "close"


def latency(answers: Sequence[Reply]) -> str:
    """How many, and how long they took."""
    milliseconds = [1000 * one.seconds for one in answers] or [0.0]
    p50, p99 = np.percentile(milliseconds, [50, 99])
    return f"{len(answers)} answers, p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {max(milliseconds):.1f} ms"


@contextmanager
def shopping(shoppers: Shoppers) -> Iterator[Shoppers]:
    """They shop for as long as the block lasts."""
    thread = threading.Thread(target=shoppers.run)
    thread.start()
    try:
        yield shoppers
    finally:
        shoppers.end()
        thread.join()
