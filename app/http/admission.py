"""Admission: accepts as many requests as can be answered in time; the rest get 503 at once.

A queue that grows makes every answer late, and late answers are work done for nobody. With one thread, the time a
request waits is the number of those in front of it times what one of them costs, so that a bound on the number is a
bound on the wait: 32 of 200 microseconds are 6 ms.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

import msgspec

from app.http.response import PROBLEM_TYPE, WholeResponse
from app.http.schemas.events import Problem
from app.metrics import REFUSED, REQUESTS_SHED
from app.settings import ServeSettings

RETRY_AFTER = (b"retry-after", b"1")
"""Seconds."""
RESERVE = 4
"""One slot in so many is for callers with less than their share."""
MAX_UNREAD = 33_554_432
"""Bytes of answers to batches that a caller has yet to read, before more batches get 429."""


class Slots(Enum):
    """Which slots a request takes: those of lists, of batches, or of what waits for a store, the topic or a thread."""

    SINGLES = "singles"
    BATCHES = "batches"
    WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A complete response, built once, since refusing a request must be cheap."""

    problem: Problem
    response: WholeResponse

    @classmethod
    def of(cls, problem: Problem) -> "Refusal":
        """The refusal that answers with `problem` as JSON and a Retry-After header."""
        body = msgspec.json.encode(problem)
        length = (b"content-length", b"%d" % len(body))
        return cls(problem, WholeResponse(problem.status, [PROBLEM_TYPE, length, RETRY_AFTER], (body,)))


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


def admissions_of(serve: ServeSettings, *, shared: bool) -> dict[Slots, Admission]:
    """The slots of a process, by kind; `shared` among several callers."""
    limits = {
        Slots.SINGLES: serve.max_in_flight,
        Slots.BATCHES: serve.max_batches,
        Slots.WAITING: serve.max_waiting,
    }
    return {slots: Admission(limit, shared=shared) for slots, limit in limits.items()}


class UnreadAnswers:
    """The bytes of answers to batches that clients have yet to read, by caller: their slots are free already."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()

    def check(self, caller: str) -> None:
        """Raises `Overload` where the caller leaves too much unread."""
        if self._held[caller] > MAX_UNREAD:
            REFUSED.labels(caller, "unread").inc()
            raise Overload(UNREAD)

    @contextmanager
    def holding(self, caller: str, size: int) -> Iterator[None]:
        """Count an answer of `size` bytes during the block, in which it is sent."""
        self._held[caller] += size
        try:
            yield
        finally:
            self._held[caller] -= size
            if not self._held[caller]:
                del self._held[caller]
