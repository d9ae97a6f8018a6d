"""The recommender: a pure function of queries, features and catalogue; the same offline and online.

prepare (rows, vectors) -> candidates per source -> boosts -> interleave -> rotate -> diversify -> choose k -> fill
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from recsys.catalogue.catalogue import Catalogue
from recsys.recommender import candidates
from recsys.recommender.candidates import NOTHING, Ranked
from recsys.recommender.placement import Source
from recsys.recommender.prepared import Prepared, QueryFeatures, prepare
from recsys.recommender.query import FallbackLevel, Query, Recommendation
from recsys.recommender.ranking import RankedList, at_least, boosted, capped, diversified, interleaved, joined, rotated
from recsys.recommender.trends import Trends
from recsys.users import UserFeatures, Vector

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
    """The record of one run, for its explanation: the query as prepared, and the order of rows after each stage."""

    prepared: Prepared | None = None
    stages: list[tuple[str, RankedList]] = field(default_factory=list)

    def stage(self, name: str, ranked: RankedList) -> None:
        """Record the order of rows after the stage `name`."""
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
    queries: Sequence[QueryFeatures], catalogue: Catalogue, trends: Trends = NO_TRENDS, trace: Trace | None = None
) -> list[Recommendation]:
    """One recommendation per query; they share look-ups, solves and searches. `trace` is of the first."""
    batch = prepare(queries, catalogue)
    nearest = _nearest(batch, catalogue)
    answers = []
    for prepared, by_source in zip(batch, nearest, strict=True):
        answers.append(_answer(_Pools(prepared, by_source, catalogue, trends), trace))
        trace = None
    return answers


def still_allowed(ranking: Recommendation, query: Query, catalogue: Catalogue) -> Recommendation:
    """The items of an earlier ranking that `query` still allows: available, passing the filters, not excluded."""
    prepared = prepare([(query, None)], catalogue)[0]
    # Rows after the version's own are items that came later, and others in every worker.
    in_version = (ranking.rows >= 0) & (ranking.rows < len(catalogue.index))
    rows = np.where(in_version, ranking.rows, 0)
    mask = in_version & ~np.isin(rows, list(prepared.excluded))
    if prepared.allowed is not None:
        mask &= prepared.allowed.mask[rows]
    return ranking.only(np.flatnonzero(mask))


def pool_size(query: Query) -> int:
    """Candidates per source: more than k where a later stage chooses among them."""
    if query.placement.is_plain:
        return query.k
    return min(max(POOL_FACTOR * query.k, MIN_POOL), MAX_POOL)


@dataclass(frozen=True, slots=True)
class _Pools:
    """The candidates of one query, by source; those of a search are there already."""

    prepared: Prepared
    nearest: dict[Source, Ranked]
    catalogue: Catalogue
    trends: Trends

    def of(self, source: Source, count: int, excluded: frozenset[int]) -> Ranked:
        """Up to `count` rows; nothing from a source that has nothing to go by."""
        allowed = self.prepared.allowed
        if source in _SEARCHED:
            return candidates.without(self.nearest.get(source, NOTHING), excluded, count)
        if source in _BY_ANCHORS:
            # An item is not its own neighbour.
            beside = excluded | frozenset(self.prepared.anchors.tolist())
            return _BY_ANCHORS[source](self.catalogue, self.prepared.anchors, allowed, beside, count)
        if source is Source.TRENDING:
            trends = self.trends.ranked(self.catalogue, self.prepared.query.placement.trending_hours)
            return candidates.trending(trends, allowed, excluded, count)
        if source is Source.NEW:
            return candidates.new(self.catalogue, self.prepared.vector, allowed, excluded, count)
        return candidates.popular(self.catalogue, allowed, excluded, count)


def _nearest(batch: Sequence[Prepared], catalogue: Catalogue) -> list[dict[Source, Ranked]]:
    """Candidates by user and session vector; vectors with the same filter are searched together."""
    results: list[dict[Source, Ranked]] = [{} for _ in batch]
    groups: dict[int, list[tuple[int, Source, Vector, int]]] = {}
    for position, prepared in enumerate(batch):
        limit = pool_size(prepared.query) + len(prepared.excluded)
        for source, vector in ((Source.PERSONAL, prepared.vector), (Source.SESSION, prepared.session_vector)):
            if vector is not None and source in prepared.sources:
                groups.setdefault(id(prepared.allowed), []).append((position, source, vector, limit))
    for group in groups.values():
        vectors = np.stack([vector for _, _, vector, _ in group])
        allowed = batch[group[0][0]].allowed
        rows, scores = catalogue.index.search(vectors, max(limit for *_, limit in group), allowed)
        for at, (position, source, _, limit) in enumerate(group):
            # Rows that do not exist (-1) come last.
            end = limit if rows[at, -1] >= 0 else min(limit, int(np.count_nonzero(rows[at] >= 0)))
            results[position][source] = Ranked(rows[at, :end], scores[at, :end])
    return results


def _answer(pools: _Pools, trace: Trace | None) -> Recommendation:
    prepared, catalogue = pools.prepared, pools.catalogue
    query, placement = prepared.query, prepared.query.placement
    count = pool_size(query)
    if placement.is_plain and trace is None and placement.min_score is None:
        # Nothing comes between the one source and the answer, unless it has too little.
        source = placement.sources[0].source
        only = pools.of(source, count, prepared.excluded)
        if len(only) == query.k:
            chosen = RankedList(only.rows, only.scores, (source,) * query.k)
            return Recommendation(
                catalogue.index.version, _fallback_level(prepared, chosen), chosen.rows, chosen.scores, chosen.sources
            )
    lists = [(own.source, own.share, pools.of(own.source, count, prepared.excluded)) for own in placement.sources]
    if placement.min_score is not None:
        lists = [(source, share, at_least(ranked, source, placement.min_score)) for source, share, ranked in lists]
    ranked = interleaved([(source, share, boosted(pool, placement.boosts, catalogue)) for source, share, pool in lists])
    turned = rotated(ranked, prepared.shown)
    diverse = diversified(turned, placement.diversity, query.k, catalogue)
    chosen = _chosen(diverse, pools)
    if trace is not None:
        trace.prepared = prepared
        trace.stages += [
            ("candidates", interleaved(lists)),
            ("boosts", ranked),
            ("rotation", turned),
            ("diversity", diverse),
            ("answer", chosen),
        ]
    short = _shortage(prepared, len(chosen), catalogue) if len(chosen) < query.k else None
    return Recommendation(
        catalogue.index.version, _fallback_level(prepared, chosen), chosen.rows, chosen.scores, chosen.sources, short
    )


def _chosen(ranked: RankedList, pools: _Pools) -> RankedList:
    """The first k under the cap per category; what is missing comes from the fallback sources in their order."""
    k, placement = pools.prepared.query.k, pools.prepared.query.placement
    used: Counter[str] = Counter()
    per_category = placement.max_per_category
    chosen = ranked.head(k) if per_category is None else capped(ranked, per_category, k, used, pools.catalogue)
    for source in placement.fallback:
        missing = k - len(chosen)
        if not missing:
            break
        excluded = pools.prepared.excluded | frozenset(chosen.rows.tolist())
        filler = pools.of(source, missing if per_category is None else MAX_POOL, excluded)
        extra = RankedList(filler.rows, filler.scores, (source,) * len(filler))
        if per_category is not None:
            extra = capped(extra, per_category, missing, used, pools.catalogue)
        chosen = joined(chosen, extra)
    return chosen


def _fallback_level(prepared: Prepared, chosen: RankedList) -> FallbackLevel:
    """The best fallback level that put an item into the answer."""
    sources = set(chosen.sources)
    if prepared.vector is not None and not _FROM_VECTOR.isdisjoint(sources):
        return prepared.fallback_level
    if not _FROM_VISIT.isdisjoint(sources):
        return FallbackLevel.SESSION
    return FallbackLevel.TRENDING if Source.TRENDING in sources else FallbackLevel.POPULAR


def _shortage(prepared: Prepared, count: int, catalogue: Catalogue) -> str:
    may = len(catalogue) if prepared.allowed is None else prepared.allowed.count
    return (
        f"{count} of {prepared.query.k}: of {len(catalogue)} items {may} are available and pass the filters, "
        f"{len(prepared.excluded)} are excluded, and the placement's sources have no more"
    )
