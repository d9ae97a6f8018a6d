"""Query and Recommendation: what is asked of the recommender and what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from recsys.item import PropertyValue

MAX_K = 500


class Rung(StrEnum):
    """How an answer came about, best first: the fallback ladder."""

    EMBEDDING = "embedding"
    FOLDED = "folded"
    SNAPSHOT = "snapshot"
    SESSION = "session"
    POPULAR = "popular"


class Source(StrEnum):
    """Where one recommended item came from."""

    PERSONAL = "personal"
    SESSION = "session"
    SIMILAR = "similar"
    POPULAR = "popular"


@dataclass(frozen=True, slots=True)
class Filter:
    """Keep items of any of `categories` whose properties equal every one of `properties`."""

    categories: frozenset[str] = frozenset()
    properties: Mapping[str, PropertyValue] = field(default_factory=dict)

    def key(self) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
        """Hashable and independent of order, for caching what the filter lets through."""
        return tuple(sorted(self.categories)), tuple(sorted((k, repr(v)) for k, v in self.properties.items()))


@dataclass(frozen=True, slots=True)
class Query:
    """One question to the recommender; pure data, the same offline and online."""

    k: int = 10
    user_id: str | None = None
    session_items: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    exclude_seen: bool = False
    filter: Filter | None = None


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Up to k items, best first: `rows` (int64) into the index, `scores` (float32), one source each."""

    version: str
    rung: Rung
    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    sources: tuple[Source, ...]
