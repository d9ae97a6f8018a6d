"""Draft: an answer in the making, which the stages of the pipeline hand on."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from recsys.catalogue.catalogue import Catalogue
from recsys.index.allowed import AllowedRows
from recsys.recommender.placement import Source
from recsys.recommender.query import FallbackLevel, Query
from recsys.recommender.ranked import NOTHING, Ranked, RankedList, Rows
from recsys.recommender.trends import Trends
from recsys.users import HistoryEntry, UserFeatures, Vector

SourceList = tuple[Source, float, Ranked]
"""A source, its share of the answer and its candidates."""
NO_ORDER = RankedList.of(Source.POPULAR, NOTHING)


@dataclass(slots=True)
class Draft:
    """One query with its vector (d,) and the fallback level that came from, and the rows that play a part in it.

    `pool` is how many candidates each source gives. `entries` is the history behind a vector that was or could be
    folded in, `session_entries` that behind the session's. `anchors` are the items at hand. `nearest` and
    `nearest_to_session` are what a search for these vectors gave. `lists` are the candidates by source, `ranked` the
    order of them all once they are merged.
    """

    query: Query
    features: UserFeatures | None
    catalogue: Catalogue
    trends: Trends
    pool: int
    sources: frozenset[Source]
    allowed: AllowedRows | None = None
    excluded: frozenset[int] = frozenset()
    shown: frozenset[int] = frozenset()
    anchors: Rows = field(default_factory=lambda: NOTHING.rows)
    fallback_level: FallbackLevel = FallbackLevel.POPULAR
    vector: Vector | None = None
    session_vector: Vector | None = None
    entries: tuple[HistoryEntry, ...] = ()
    session_entries: tuple[HistoryEntry, ...] = ()
    nearest: Ranked = NOTHING
    nearest_to_session: Ranked = NOTHING
    lists: Sequence[SourceList] = ()
    ranked: RankedList = NO_ORDER

    @property
    def has_history(self) -> bool:
        """Whether any interaction of the user is known."""
        return self.features is not None and bool(self.features.history)
