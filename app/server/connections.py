"""Connections: all of a process, their limit, and a check of each of them once a second."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Protocol

import structlog

from app.server.limits import SPARE, Limits

log = structlog.get_logger()
INTERVAL = 1.0
"""Seconds between two looks."""
MAX_UNREAD = 67_108_864
"""Bytes of answers that clients may leave unread for as long as the write timeout, together."""
QUIET = 60.0
"""Seconds between two lines in the log about the same cause."""
UNREMARKABLE = frozenset({"idle"})
"""Causes that are not logged."""


class Connection(Protocol):
    """`served`: it had an answer. `since`: when its current state began."""

    served: bool
    since: float

    @property
    def waiting(self) -> bool:
        """Whether it is idle, so that it may be closed."""

    @property
    def holder(self) -> str:
        """The caller whose client this process waits for, to send a body or to read an answer; empty otherwise."""

    def look(self, now_seconds: float, patience: float) -> int:
        """End it if it takes too long, or leaves answers unread for `patience` seconds. Returns the unread bytes."""

    def end(self, cause: str) -> None:
        """Close it; only a client that is sending a body gets an answer."""


class Connections:
    """The open connections. Not for threads: it lives on the event loop, with one timer for all.

    `observe` gets once a second how many are open, and how many ended since by cause.
    """

    def __init__(self, limits: Limits, observe: Callable[[int, Counter[str]], None] | None = None) -> None:
        self.limits = limits
        self.now = 0.0
        """Seconds that the event loop has been at work, as of the last look; reading a clock is a system call."""
        self._observe = observe
        self._open: dict[Connection, None] = {}
        self._expendable: list[Connection] = []
        self._searched = -INTERVAL
        self._ended: Counter[str] = Counter()
        self._unlogged: Counter[str] = Counter()
        self._logged: dict[str, float] = {}
        self._looked: float | None = None
        self._unread = 0

    def enter(self, connection: Connection) -> bool | None:
        """Return whether there is room; `None` where only health checks may be answered."""
        if self._looked is None:
            self._begin()
        room = len(self._open) < self.limits.connections or self._make_room()
        if not room and len(self._open) >= self.limits.connections + SPARE:
            return False
        self._open[connection] = None
        return True if room else None

    def leave(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self._open.pop(connection, None)

    @property
    def expectant(self) -> bool:
        """Whether the first request of some connection is still to come."""
        return any(connection.waiting and not connection.served for connection in self._open)

    def note(self, cause: str) -> None:
        """Count a connection that ends for this cause."""
        self._ended[cause] += 1

    def _make_room(self) -> bool:
        """End the connection that matters least. Returns whether there was one."""
        while True:
            if not self._expendable and not self._search():
                return False
            connection = self._expendable.pop()
            if connection in self._open and (connection.waiting or connection.holder):
                self.leave(connection)
                connection.end("no-room")
                return True

    def _search(self) -> bool:
        """Find connections to end, oldest first: idle ones never served, other idle ones, those beyond a share.

        A search that finds few is not repeated before the next check, since it costs as much as there are connections.
        """
        if self._searched == self.now:
            return False
        waiting = [connection for connection in self._open if connection.waiting]
        idle = sorted(waiting, key=lambda connection: (connection.served, connection.since))
        self._expendable = [*idle, *self._beyond_share()][::-1]
        if len(self._expendable) < len(self._open) // 8:
            self._searched = self.now
        return bool(self._expendable)

    def _beyond_share(self) -> list[Connection]:
        """The oldest of the connections that callers hold beyond their share: 1/(n + 1) each of n who hold some."""
        held: defaultdict[str, list[Connection]] = defaultdict(list)
        for connection in sorted(self._open, key=lambda connection: connection.since):
            if holder := connection.holder:
                held[holder].append(connection)
        share = self.limits.connections // (len(held) + 1)
        return [connection for of_caller in held.values() for connection in of_caller[: max(0, len(of_caller) - share)]]

    def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        self._looked = loop.time()
        loop.call_later(INTERVAL, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        # A pause of this process does not count against clients: it could not read from them.
        self.now += min(loop.time() - (self._looked or 0.0), 2 * INTERVAL)
        self._looked = loop.time()
        loop.call_later(INTERVAL, self._look, loop)
        # Where the unread take too much memory, patience is short.
        patience = self.limits.write_timeout if self._unread < MAX_UNREAD else INTERVAL
        self._unread = sum(connection.look(self.now, patience) for connection in list(self._open))
        if self._observe is not None:
            self._observe(len(self._open), self._ended)
        self._tell()

    def _tell(self) -> None:
        """Log one line per cause and minute, however many connections ended."""
        self._unlogged += self._ended
        self._ended = Counter()
        for cause in list(self._unlogged):
            if cause in UNREMARKABLE:
                del self._unlogged[cause]
            elif self.now - self._logged.get(cause, -QUIET) >= QUIET:
                self._logged[cause] = self.now
                log.warning("connections ended", cause=cause, connections=self._unlogged.pop(cause))
