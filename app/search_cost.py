"""SearchCost: whether to recommend on the event loop or beside it, by what it has cost so far."""

import asyncio
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import TypeVar

from recsys.recommendation import Query

T = TypeVar("T")
MAX_INLINE = 0.002
"""Seconds that the event loop may be held; handing over to a thread and back costs about a tenth of that."""
SMOOTHING = 0.1


class SearchCost:
    """Measured per version, for plain queries and for the others, which filter, boost or mix sources.

    The first of each kind runs beside the loop: it may have a filter to compile over a million items.
    """

    def __init__(self) -> None:
        self._seconds: dict[bool, float] = {}

    async def run(self, queries: Sequence[Query], call: Callable[[], T]) -> T:
        """`call` for `queries`, where it holds nobody up."""
        plain = all(query.is_plain for query in queries)
        expected = self._seconds.get(plain, MAX_INLINE) * len(queries)
        began = perf_counter()
        result = call() if expected < MAX_INLINE else await asyncio.to_thread(call)
        seconds = (perf_counter() - began) / len(queries)
        known = self._seconds.get(plain, seconds)
        self._seconds[plain] = known + SMOOTHING * (seconds - known)
        return result
