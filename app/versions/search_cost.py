"""SearchCost: decides whether to recommend on the event loop or in a thread, by the measured processor time."""

import asyncio
from collections.abc import Callable, Sequence
from time import thread_time
from typing import Generic, TypeVar

from recsys.recommender.query import Query

T = TypeVar("T")
MAX_INLINE = 0.004
"""Seconds that the event loop may be held; two threads that both want the interpreter cost more than they give."""
SMOOTHING = 0.1
LOOK_EVERY = 8
"""Calls of which one is measured: reading the clock of a thread is a system call, twice."""


Kind = tuple[bool, int]
"""A class of queries: plain or not, and the number of bits of k, as ten items cost less than five hundred."""


class SearchCost:
    """Measured per version, for plain queries and for the others, which filter, boost or mix sources, and by their k.

    The first of each kind runs beside the loop. Processor time is what counts: waiting for the interpreter or for a
    core says nothing about the search.
    """

    def __init__(self) -> None:
        self._seconds: dict[Kind, float] = {}
        self._calls = 0

    def fitting(self, queries: Sequence[Query]) -> int:
        """How many of `queries`, at least one, fit into the time for which the event loop may be held."""
        return max(1, min(len(queries), int(MAX_INLINE / self._seconds.get(_kind(queries), MAX_INLINE))))

    async def run(self, queries: Sequence[Query], call: Callable[[], T], *, beside: bool = False) -> T:
        """The result of `call`, on the event loop if it is short for `queries`; with `beside` always in a thread."""
        kind = _kind(queries)
        estimate = self._seconds.get(kind)
        inline = not beside and estimate is not None and estimate * len(queries) < MAX_INLINE
        self._calls += 1
        if estimate is not None and self._calls % LOOK_EVERY:
            return call() if inline else await asyncio.to_thread(call)
        measured = _Measurement(call)
        result = measured() if inline else await asyncio.to_thread(measured)
        seconds = measured.seconds / len(queries)
        self._seconds[kind] = seconds if estimate is None else estimate + SMOOTHING * (seconds - estimate)
        return result


def _kind(queries: Sequence[Query]) -> Kind:
    return all(query.is_plain for query in queries), max(query.k for query in queries).bit_length()


class _Measurement(Generic[T]):
    """A call that knows how much processor time it took, whichever thread it ran in."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self.seconds = 0.0

    def __call__(self) -> T:
        began = thread_time()
        result = self._call()
        self.seconds = thread_time() - began
        return result
