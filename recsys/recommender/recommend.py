"""The recommender: a pure function of queries, features and catalogue; the same offline and online.

prepare (rows, vectors) -> candidates per source -> boosts -> interleave -> rotate -> diversify -> choose k -> fill
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from recsys.placement import Source
from recsys.recommendation import FallbackLevel, Query, Recommendation
from recsys.recommender import candidates
from recsys.recommender.candidates import NOTHING, Ranked
from recsys.recommender.catalogue import Catalogue
from recsys.recommender.prepared import Asked, Prepared, prepare
from recsys.recommender.ranking import RankedList, at_least, boosted, capped, diversified, interleaved, joined, rotated
from recsys.recommender.trends import Trends
from recsys.user_features import UserFeatures, Vector

POOL_FACTOR = 4
MIN_POOL = 100
MAX_POOL = 2000

_FROM_VECTOR = frozenset({Source.PERSONAL, Source.NEW})
_FROM_VISIT = frozenset({Source.SESSION, Source.SIMILAR, Source.CO_OCCURRENCE})
_SEARCHED = frozenset({Source.PERSONAL, Source.SESSION})
_BY_ANCHORS = {Source.SIMILAR: candidates.similar, Source.CO_OCCURRENCE: candidates.co_occurrence}
NO_TRENDS = Trends()


@dataclass(slots=True)
class Trace:
    """What an explanation is made of: the query as prepared, and the order of rows after each stage."""

    prepared: Prepared | None = None
    stages: list[tuple[str, RankedList]] = field(default_factory=list)

    def stage(self, name: str, ranked: RankedList) -> None:
        self.stages.append((name, ranked))


def recommend(
    query: Query,
    features: UserFeatures | None,
    catalogue: Catalogue,
    trends: Trends = NO_TRENDS,
    trace: Trace | None = None,
) -> Recommendation:
    """Up to `query.k` distinct items that are available, pass the filters and are not excluded.

    `features` is `None` when they could not be read (or there is no user to read). The best fallback level of
    the ladder that has something to say answers: stored embedding, fold-in of the history, snapshot in
    the version, session, trending or popular.
    """
    return recommend_many([(query, features)], catalogue, trends, trace)[0]


def recommend_many(
    asked: Sequence[Asked], catalogue: Catalogue, trends: Trends = NO_TRENDS, trace: Trace | None = None
) -> list[Recommendation]:
    """The same for many queries at once, which share look-ups, solves and searches; `trace` is of the first."""
    prepared = prepare(asked, catalogue)
    nearest = _nearest(prepared, catalogue)
    answers = []
    for one, found in zip(prepared, nearest, strict=True):
        answers.append(_answer(_Pools(one, found, catalogue, trends), trace))
        trace = None
    return answers


def still_allowed(ranking: Recommendation, query: Query, catalogue: Catalogue) -> Recommendation:
    """What of an earlier ranking may still be an answer to `query`: available, passing the filters, not excluded."""
    one = prepare([(query, None)], catalogue)[0]
    # Rows after the version's own are items that came later, and others in every worker.
    known = (ranking.rows >= 0) & (ranking.rows < len(catalogue.index))
    rows = np.where(known, ranking.rows, 0)
    kept = known & ~np.isin(rows, list(one.excluded))
    if one.allowed is not None:
        kept &= one.allowed.mask[rows]
    return ranking.only(np.flatnonzero(kept))


def pool_size(query: Query) -> int:
    """Candidates per source: more than k where a later stage chooses among them."""
    if query.placement.is_plain:
        return query.k
    return min(max(POOL_FACTOR * query.k, MIN_POOL), MAX_POOL)


@dataclass(frozen=True, slots=True)
class _Pools:
    """The candidates of one query, by source; those of a search are there already."""

    one: Prepared
    nearest: dict[Source, Ranked]
    catalogue: Catalogue
    trends: Trends

    def of(self, source: Source, count: int, excluded: frozenset[int]) -> Ranked:
        """Up to `count` rows; nothing from a source that has nothing to go by."""
        allowed = self.one.allowed
        if source in _SEARCHED:
            return candidates.without(self.nearest.get(source, NOTHING), excluded, count)
        if source in _BY_ANCHORS:
            # An item is not its own neighbour.
            beside = excluded | frozenset(self.one.anchors.tolist())
            return _BY_ANCHORS[source](self.catalogue, self.one.anchors, allowed, beside, count)
        if source is Source.TRENDING:
            trends = self.trends.ranked(self.catalogue, self.one.query.placement.trending_hours)
            return candidates.trending(trends, allowed, excluded, count)
        if source is Source.NEW:
            return candidates.new(self.catalogue, self.one.vector, allowed, excluded, count)
        return candidates.popular(self.catalogue, allowed, excluded, count)


def _nearest(prepared: Sequence[Prepared], catalogue: Catalogue) -> list[dict[Source, Ranked]]:
    """Candidates by user and session vector; vectors with the same filter are searched together."""
    found: list[dict[Source, Ranked]] = [{} for _ in prepared]
    groups: dict[int, list[tuple[int, Source, Vector, int]]] = {}
    for place, one in enumerate(prepared):
        wanted = pool_size(one.query) + len(one.excluded)
        for source, vector in ((Source.PERSONAL, one.vector), (Source.SESSION, one.session_vector)):
            if vector is not None and source in one.sources:
                groups.setdefault(id(one.allowed), []).append((place, source, vector, wanted))
    for group in groups.values():
        vectors = np.stack([vector for _, _, vector, _ in group])
        allowed = prepared[group[0][0]].allowed
        rows, scores = catalogue.index.search(vectors, max(wanted for *_, wanted in group), allowed)
        for at, (place, source, _, wanted) in enumerate(group):
            # Rows that do not exist (-1) come last.
            end = wanted if rows[at, -1] >= 0 else min(wanted, int(np.count_nonzero(rows[at] >= 0)))
            found[place][source] = Ranked(rows[at, :end], scores[at, :end])
    return found


def _answer(pools: _Pools, trace: Trace | None) -> Recommendation:
    one, catalogue = pools.one, pools.catalogue
    query, placement = one.query, one.query.placement
    count = pool_size(query)
    if placement.is_plain and trace is None and placement.min_score is None:
        # Nothing comes between the one source and the answer, unless it has too little.
        source = placement.sources[0].source
        only = pools.of(source, count, one.excluded)
        if len(only) == query.k:
            chosen = RankedList(only.rows, only.scores, (source,) * query.k)
            return Recommendation(
                catalogue.index.version, _fallback_level(one, chosen), chosen.rows, chosen.scores, chosen.sources
            )
    lists = [(own.source, own.share, pools.of(own.source, count, one.excluded)) for own in placement.sources]
    if placement.min_score is not None:
        lists = [(source, share, at_least(ranked, source, placement.min_score)) for source, share, ranked in lists]
    ranked = interleaved([(source, share, boosted(one, placement.boosts, catalogue)) for source, share, one in lists])
    turned = rotated(ranked, one.shown)
    diverse = diversified(turned, placement.diversity, query.k, catalogue)
    chosen = _chosen(diverse, pools)
    if trace is not None:
        trace.prepared = one
        trace.stages += [
            ("candidates", interleaved(lists)),
            ("boosts", ranked),
            ("rotation", turned),
            ("diversity", diverse),
            ("answer", chosen),
        ]
    short = _shortage(one, len(chosen), catalogue) if len(chosen) < query.k else None
    return Recommendation(
        catalogue.index.version, _fallback_level(one, chosen), chosen.rows, chosen.scores, chosen.sources, short
    )


def _chosen(ranked: RankedList, pools: _Pools) -> RankedList:
    """The first k under the cap per category; what is missing comes from the fallback sources in their order."""
    k, placement = pools.one.query.k, pools.one.query.placement
    used: Counter[str] = Counter()
    most = placement.max_per_category
    chosen = ranked.head(k) if most is None else capped(ranked, most, k, used, pools.catalogue)
    for source in placement.fallback:
        missing = k - len(chosen)
        if not missing:
            break
        excluded = pools.one.excluded | frozenset(chosen.rows.tolist())
        more = pools.of(source, missing if most is None else MAX_POOL, excluded)
        extra = RankedList(more.rows, more.scores, (source,) * len(more))
        if most is not None:
            extra = capped(extra, most, missing, used, pools.catalogue)
        chosen = joined(chosen, extra)
    return chosen


def _fallback_level(one: Prepared, chosen: RankedList) -> FallbackLevel:
    """The best fallback level that put an item into the answer."""
    sources = set(chosen.sources)
    if one.vector is not None and not _FROM_VECTOR.isdisjoint(sources):
        return one.fallback_level
    if not _FROM_VISIT.isdisjoint(sources):
        return FallbackLevel.SESSION
    return FallbackLevel.TRENDING if Source.TRENDING in sources else FallbackLevel.POPULAR


def _shortage(one: Prepared, found: int, catalogue: Catalogue) -> str:
    may = len(catalogue) if one.allowed is None else one.allowed.count
    return (
        f"{found} of {one.query.k}: of {len(catalogue)} items {may} are available and pass the filters, "
        f"{len(one.excluded)} are excluded, and the placement's sources have no more"
    )
