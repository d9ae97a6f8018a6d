"""Items by demand, the same for every user but for the order of new ones: popular, trending, new."""

import numpy as np

from recsys.catalogue.catalogue import Catalogue
from recsys.catalogue.new_items import MAX_NEW
from recsys.index.allowed import AllowedRows
from recsys.recommender.candidates.source import (
    VECTOR,
    Contributions,
    best,
    first,
    no_contributions,
    vector_contributions,
)
from recsys.recommender.draft import Draft
from recsys.recommender.placement import Source
from recsys.recommender.query import FallbackLevel
from recsys.recommender.ranked import Ranked
from recsys.users import Vector


class Popular:
    """Wanted by most users."""

    name = Source.POPULAR
    needs: frozenset[str] = frozenset()

    def candidates(self, draft: Draft, count: int, excluded: frozenset[int]) -> Ranked:
        """The most popular items."""
        return popular(draft.catalogue, draft.allowed, excluded, count)

    def fallback_level(self, _: Draft) -> FallbackLevel:
        """The last one."""
        return FallbackLevel.POPULAR

    def contributions(self, _: Draft) -> Contributions:
        """None: the user plays no part."""
        return no_contributions


def popular(catalogue: Catalogue, allowed: AllowedRows | None, excluded: frozenset[int], count: int) -> Ranked:
    """The most popular items; scores in [0, 1]."""
    index = catalogue.index
    rows = index.popular_rows[first(index.popular_rows, allowed, excluded, count)]
    return Ranked(rows, index.popularity[rows])


class Trending:
    """Wanted more than usual within the last `trending_hours`."""

    name = Source.TRENDING
    needs: frozenset[str] = frozenset()

    def candidates(self, draft: Draft, count: int, excluded: frozenset[int]) -> Ranked:
        """The first of the trends that may be shown, with their scores."""
        trends = draft.trends.ranked(draft.catalogue, draft.query.placement.trending_hours)
        return trends.only(first(trends.rows, draft.allowed, excluded, count))

    def fallback_level(self, _: Draft) -> FallbackLevel:
        """Better than what is always popular."""
        return FallbackLevel.TRENDING

    def contributions(self, _: Draft) -> Contributions:
        """None: the user plays no part."""
        return no_contributions


class New:
    """Without interactions yet; placed by what they are (categories, text)."""

    name = Source.NEW
    needs = frozenset({VECTOR})

    def candidates(self, draft: Draft, count: int, excluded: frozenset[int]) -> Ranked:
        """The items that nobody has touched."""
        return new(draft.catalogue, draft.vector, draft.allowed, excluded, count)

    def fallback_level(self, draft: Draft) -> FallbackLevel:
        """Where the vector came from."""
        return FallbackLevel.POPULAR if draft.vector is None else draft.fallback_level

    def contributions(self, draft: Draft) -> Contributions:
        """What each item of the history adds to the inner product."""
        return vector_contributions(draft, "entries")


def new(
    catalogue: Catalogue, vector: Vector | None, allowed: AllowedRows | None, excluded: frozenset[int], count: int
) -> Ranked:
    """Items without interactions, by inner product with the user's vector; the latest first where there is none."""
    rows = catalogue.new_rows[-MAX_NEW:]
    if vector is None:
        latest = rows[::-1][first(rows[::-1], allowed, excluded, count)]
        return Ranked(latest, np.zeros(len(latest), np.float32))
    return best(rows, catalogue.vectors(rows) @ vector, allowed, excluded, count)
