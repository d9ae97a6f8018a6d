"""SearchCost: whether to recommend on the event loop or beside it, by what it has cost so far."""

import asyncio
from collections.abc import Callable, Sequence
from time import thread_time
from typing import Generic, TypeVar

from recsys.recommendation import Query

T = TypeVar("T")
MAX_INLINE = 0.004
"""Seconds that the event loop may be held; two threads that both want the interpreter cost more than they give."""
SMOOTHING = 0.1


class SearchCost:
    """Measured per version, for plain queries and for the others, which filter, boost or mix sources.

    The first of each kind runs beside the loop. Processor time is what counts: waiting for the interpreter or for a
    core says nothing about the search.
    """

    def __init__(self) -> None:
        self._seconds: dict[bool, float] = {}

    async def run(self, queries: Sequence[Query], call: Callable[[], T], *, beside: bool = False) -> T:
        """`call` for `queries`, where it holds nobody up; `beside` the loop whatever it has cost so far."""
        plain = all(query.is_plain for query in queries)
        expected = self._seconds.get(plain, MAX_INLINE) * len(queries)
        measured = _Measured(call)
        inline = expected < MAX_INLINE and not beside
        result = measured() if inline else await asyncio.to_thread(measured)
        seconds = measured.seconds / len(queries)
        known = self._seconds.get(plain, seconds)
        self._seconds[plain] = known + SMOOTHING * (seconds - known)
        return result


class _Measured(Generic[T]):
    """A call that knows how much processor time it took, whichever thread it ran in."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self.seconds = 0.0

    def __call__(self) -> T:
        began = thread_time()
        result = self._call()
        self.seconds = thread_time() - began
        return result
