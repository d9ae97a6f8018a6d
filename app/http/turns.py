"""Turns: of long work a piece per round of the event loop, and one caller's after another's.

What comes in between is everybody else's: a flood of long requests makes each other wait, and short ones next to not at
all. Whoever sends many waits for themselves, since callers take turns and not requests.
"""

import asyncio
from collections import deque

from starlette.types import Scope as Connection

LONG = 4096
"""Bytes of a body or a query whose decoding is worth a turn: less takes under a millisecond."""
CALLER = "caller"
"""Where in an ASGI scope the name of the caller stands, once a key was looked at."""


class Turns:
    """Those of this process; lives on the event loop."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[asyncio.Future[None]]] = {}
        self._due = False

    async def turn(self, connection: Connection, *, next_piece: bool = False) -> None:
        """Until a piece of the work of this request may hold the loop: up to its next `await`.

        The `next_piece` of what has begun goes before what has not: then its memory is free again, and it is answered.
        """
        loop = asyncio.get_running_loop()
        waiting = loop.create_future()
        queue = self._queues.setdefault(connection.get(CALLER, ""), deque())
        if next_piece:
            queue.appendleft(waiting)
        else:
            queue.append(waiting)
        if not self._due:
            self._due = True
            loop.call_soon(self._next)
        await waiting

    def _next(self) -> None:
        """Wakes one, and itself for the round after that one's piece."""
        while self._queues:
            caller = next(iter(self._queues))
            queue = self._queues.pop(caller)
            waiting = queue.popleft()
            if queue:
                self._queues[caller] = queue
            if not waiting.done():
                waiting.set_result(None)
                break
        self._due = bool(self._queues)
        if self._due:
            asyncio.get_running_loop().call_soon(self._next)
