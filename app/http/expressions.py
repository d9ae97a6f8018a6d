"""Expressions: the filters and boosts of requests, compiled beside the event loop.

A long one takes ten milliseconds, and a request may have several. One thread compiles them, a piece of each waiting
request after the other; recently compiled ones are ready at once.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from app.http.schemas.recommendations import ListParams, RecommendBody
from recsys.errors import Unavailable
from recsys.filters.expression import CACHED, Named, check_lengths, compile_named

SHORT = 128
"""Characters of all expressions of a request: so few compile faster than a thread starts to work."""
PIECE = 512
"""Characters compiled in one go: the expressions of other requests come in between."""
MAX_WAITING = 64
"""Requests in the queue of the thread."""


class Expressions:
    """The compiled expressions of this process. Not thread-safe: for the event loop only."""

    def __init__(self) -> None:
        self._ready: dict[Named, None] = {}
        self._thread = ThreadPoolExecutor(1, "expressions")
        self._waiting = 0

    async def ready(self, body: ListParams) -> None:
        """Compile the filter and the boosts of `body`. Raises `InvalidInput` naming the field, and `Unavailable`."""
        boosts = body.boosts if isinstance(body, RecommendBody) else None
        if boosts or body.filter:
            named = [("filter", body.filter)] if body.filter else []
            named += [
                (f"boosts.{position}.when", boost.when) for position, boost in enumerate(boosts or ()) if boost.when
            ]
            check_lengths(named)
            if sum(len(text) for _, text in named) <= SHORT:
                compile_named(named)
            else:
                await self._compile([expression for expression in named if expression not in self._ready])

    def close(self) -> None:
        """End the thread; expressions that still wait are not compiled."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _compile(self, fresh: Sequence[Named]) -> None:
        if not fresh:
            return
        if self._waiting >= MAX_WAITING:
            raise Unavailable("more expressions wait to be compiled than can be in time; try again", 1.0)
        self._waiting += 1
        try:
            for piece in _pieces(fresh):
                await asyncio.get_running_loop().run_in_executor(self._thread, compile_named, piece)
        finally:
            self._waiting -= 1
        self._ready.update(dict.fromkeys(fresh))
        while len(self._ready) > CACHED // 2:
            del self._ready[next(iter(self._ready))]


def _pieces(expressions: Sequence[Named]) -> list[list[Named]]:
    """The expressions in order, in pieces of `PIECE` characters or a single one."""
    pieces: list[list[Named]] = []
    room = 0
    for expression in expressions:
        room -= len(expression[1])
        if room < 0 or not pieces:
            pieces.append([])
            room = PIECE - len(expression[1])
        pieces[-1].append(expression)
    return pieces
