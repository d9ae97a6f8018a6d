"""Query and Recommendation: what is asked of the recommender and what it answers."""

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from recsys.filters.expression import Expression, compile_expression
from recsys.recommender.placement import MAX_K, Placement, Source

__all__ = ["MAX_K", "FallbackLevel", "Query", "Recommendation", "Source"]


class FallbackLevel(StrEnum):
    """How an answer came about, best first: the fallback ladder."""

    EMBEDDING = "embedding"
    FOLDED = "folded"
    SNAPSHOT = "snapshot"
    SESSION = "session"
    TRENDING = "trending"
    POPULAR = "popular"


MAX_POOL = 2000
"""Candidates per source at most."""
DEFAULT = Placement()


@dataclass(frozen=True, slots=True)
class Query:
    """One question to the recommender; pure data, the same offline and online.

    `now_ms` is the moment of asking in epoch milliseconds: what "seen lately" counts back from. `filter` holds
    together with the placement's own.
    """

    k: int = 10
    user_id: str | None = None
    session_items: tuple[str, ...] = ()
    cart_items: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    filter: Expression | None = None
    placement: Placement = DEFAULT
    now_ms: int = 0

    @property
    def is_plain(self) -> bool:
        """Neither filtered nor more than a look-up in one source."""
        return self.filter is None and not self.placement.filter and self.placement.is_plain

    @property
    def conditions(self) -> tuple[Expression, ...]:
        """What an item must fulfil: the placement's filter and the query's own."""
        text = self.placement.filter
        if not text:
            return () if self.filter is None else (self.filter,)
        own = compile_expression(text)
        return (own,) if self.filter is None else (own, self.filter)

    @property
    def visit(self) -> tuple[str, ...]:
        """The items at hand: the cart, then what was looked at."""
        return (*self.cart_items, *self.session_items)


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Up to k items, best first: `rows` (int64) of the catalogue, `scores` (float32), one source each.

    Scores compare within one source only. `short` says why there are fewer than were asked for.
    """

    version: str
    fallback_level: FallbackLevel
    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    sources: tuple[Source, ...]
    short: str | None = None

    def only(self, places: slice | NDArray[np.int64]) -> "Recommendation":
        """The items at these positions, in this order."""
        chosen = np.arange(len(self.rows))[places].tolist()
        return replace(
            self,
            rows=self.rows[chosen],
            scores=self.scores[chosen],
            sources=tuple(self.sources[position] for position in chosen),
        )
