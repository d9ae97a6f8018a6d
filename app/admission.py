"""Admission: as many requests as can be answered in time; the others are told at once to come back.

A queue that grows makes every answer late, and late answers are work done for nobody. With one thread, the time a
request waits is the number of those in front of it times what one of them costs, so that a bound on the number is a
bound on the wait: 32 of 200 microseconds are 6 ms.
"""

import msgspec

from app.metrics import REQUESTS_SHED
from app.schemas import Problem

RETRY_AFTER = 1
"""Seconds."""
SHED_STATUS = 503
SHED_BODY = msgspec.json.encode(
    Problem("Temporarily unavailable", SHED_STATUS, "more requests than can be answered in time; try again")
)
SHED_HEADERS = [
    (b"content-type", b"application/problem+json"),
    (b"content-length", str(len(SHED_BODY)).encode()),
    (b"retry-after", str(RETRY_AFTER).encode()),
]
"""A whole answer, built once: turning somebody away must cost next to nothing."""


class Overloaded(Exception):
    """There is no room: the answer is `SHED_BODY`."""


class Admission:
    """Counts the requests being answered in this process. Not for threads: it lives on the event loop."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._inside = 0

    def enter(self) -> bool:
        """Whether there is room; who gets in must `leave`, however it ends."""
        if self._inside >= self._limit:
            REQUESTS_SHED.inc()
            return False
        self._inside += 1
        return True

    def leave(self) -> None:
        self._inside -= 1
