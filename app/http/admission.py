"""Admission: accepts as many requests as can be answered in time; the rest get 503 at once.

A queue that grows makes every answer late, and late answers are work done for nobody. With one thread, the time a
request waits is the number of those in front of it times what one of them costs, so that a bound on the number is a
bound on the wait: 32 of 200 microseconds are 6 ms.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec

from app.http.schemas.events import Problem
from app.metrics import REFUSED, REQUESTS_SHED

RETRY_AFTER = 1
"""Seconds."""
RETRY = {"Retry-After": str(RETRY_AFTER)}
RESERVE = 4
"""One slot in so many is for callers with less than their share."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A complete response, built once, since refusing a request must be cheap."""

    problem: Problem
    body: bytes
    headers: list[tuple[bytes, bytes]]

    @classmethod
    def of(cls, problem: Problem) -> "Refusal":
        """The refusal that answers with `problem` as JSON and a Retry-After header."""
        body = msgspec.json.encode(problem)
        headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(body)).encode()),
            (b"retry-after", str(RETRY_AFTER).encode()),
        ]
        return cls(problem, body, headers)


FULL = Refusal.of(Problem("Temporarily unavailable", 503, "more requests than can be answered in time; try again"))
SHARE = Refusal.of(
    Problem("Too many requests", 429, "this key has its share of what is being answered; others wait too; try again")
)
UNREAD = Refusal.of(
    Problem("Too many requests", 429, "this key has not read the batches it was answered; read them, and try again")
)


class Overload(Exception):
    """No slot is free for the caller."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.problem.detail)
        self.refusal = refusal


class Admission:
    """The slots of this process, by caller. Not thread-safe: for the event loop only.

    Where there are several callers, the last quarter of the slots is for those with less than a fair share: of n
    callers with requests under way, each has a share of 1/(n + 1), so that there is room for a newcomer.
    """

    def __init__(self, limit: int, *, shared: bool = False) -> None:
        self._limit = limit
        self._open = limit - max(1, limit // RESERVE) if shared else limit
        self._inside = 0
        self._held: dict[str, int] = {}

    def enter(self, caller: str) -> None:
        """Take a slot, to be given back with `leave` in any case. Raises `Overload`."""
        held = self._held
        mine = held.get(caller, 0)
        if self._inside >= self._open:
            if self._inside >= self._limit:
                REQUESTS_SHED.inc()
                raise Overload(FULL)
            if mine >= max(1, self._limit // (len(held) + 1)):
                REFUSED.labels(caller, "share").inc()
                raise Overload(SHARE)
        held[caller] = mine + 1
        self._inside += 1

    def leave(self, caller: str) -> None:
        """Give the caller's slot back."""
        self._inside -= 1
        if self._held[caller] == 1:
            del self._held[caller]
        else:
            self._held[caller] -= 1

    @contextmanager
    def slot(self, caller: str) -> Iterator[None]:
        """Hold one slot during the block. Raises `Overload`."""
        self.enter(caller)
        try:
            yield
        finally:
            self.leave(caller)
