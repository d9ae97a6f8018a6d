"""The recommender: a list of stages over drafts; pure and synchronous, the same offline and online.

`PIPELINE` is the only place that says which sources and stages there are: traces and explanations follow from it. What
an answer brings about (impressions, outcomes of rollouts) is recorded by those who show it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from recsys.catalogue.catalogue import Catalogue
from recsys.recommender.candidates.co_occurrence import CoOccurrence
from recsys.recommender.candidates.demand import New, Popular, Trending
from recsys.recommender.candidates.nearest import Personal, Session
from recsys.recommender.candidates.similar import Similar
from recsys.recommender.candidates.source import CandidateSource, Sources
from recsys.recommender.draft import Draft
from recsys.recommender.placement import Placement, Source
from recsys.recommender.query import MAX_POOL, FallbackLevel, Query, Recommendation
from recsys.recommender.stages.boost import Boosts
from recsys.recommender.stages.choose import Choose, Fill
from recsys.recommender.stages.hydrate import Hydrate, find_rows
from recsys.recommender.stages.interleave import Interleave
from recsys.recommender.stages.retrieve import Retrieve, Search
from recsys.recommender.stages.stage import Stage, Trace
from recsys.recommender.stages.variety import Diversify, Rotate
from recsys.recommender.trends import Trends
from recsys.users import UserFeatures

POOL_FACTOR = 4
MIN_POOL = 100
NO_TRENDS = Trends()
BEST_FIRST = {level: rank for rank, level in enumerate(FallbackLevel)}

QueryFeatures = tuple[Query, UserFeatures | None]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Sources of candidates, and the stages that each batch of queries passes in this order."""

    sources: Sequence[CandidateSource]
    stages: Sequence[Stage]
    _sources: Sources = field(init=False, repr=False, compare=False)
    _choosing: Sequence[Stage] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_sources", Sources(self.sources))
        choosing = [stage for stage in self.stages if type(stage).chooses is not Stage.chooses]
        object.__setattr__(self, "_choosing", choosing)

    def run(
        self, queries: Sequence[QueryFeatures], catalogue: Catalogue, trends: Trends, trace: Trace | None = None
    ) -> list[Recommendation]:
        """One recommendation per query; they share look-ups, solves and searches. `trace` is of the first."""
        if not queries:
            return []
        drafts = [
            Draft(query, features, catalogue, trends, self._pool(query), sources_of(query.placement))
            for query, features in queries
        ]
        for stage in self.stages:
            stage.run(drafts, self._sources)
            if trace is not None:
                trace.record(stage, drafts[0], self._sources)
        return [self._recommendation(draft) for draft in drafts]

    def _pool(self, query: Query) -> int:
        """Candidates per source: more than k where a stage chooses among them."""
        placement = query.placement
        for stage in self._choosing:
            if stage.chooses(placement):
                return min(max(POOL_FACTOR * query.k, MIN_POOL), MAX_POOL)
        return query.k

    def _recommendation(self, draft: Draft) -> Recommendation:
        chosen = draft.ranked
        short = _shortage(draft) if len(chosen.rows) < draft.query.k else None
        return Recommendation(
            draft.catalogue.index.version,
            self._fallback_level(draft, chosen.sources),
            chosen.rows,
            chosen.scores,
            chosen.sources,
            short,
        )

    def _fallback_level(self, draft: Draft, sources: tuple[Source, ...]) -> FallbackLevel:
        """The best level of the sources that put an item into the answer."""
        if not sources:
            return FallbackLevel.POPULAR
        if sources.count(sources[0]) == len(sources):
            return self._sources[sources[0]].fallback_level(draft)
        return min((self._sources[source].fallback_level(draft) for source in set(sources)), key=BEST_FIRST.__getitem__)


PIPELINE = Pipeline(
    sources=(Personal(), Session(), Similar(), CoOccurrence(), Trending(), New(), Popular()),
    stages=(
        Hydrate(),
        Search(),
        Retrieve(),
        Boosts(),
        Interleave(),
        Rotate(),
        Diversify(),
        Choose(),
        Fill(),
    ),
)


def recommend(
    query: Query,
    features: UserFeatures | None,
    catalogue: Catalogue,
    trends: Trends = NO_TRENDS,
    trace: Trace | None = None,
    pipeline: Pipeline = PIPELINE,
) -> Recommendation:
    """Up to `query.k` distinct items that are available, pass the filters and are not excluded.

    `features` is `None` when they could not be read (or there is no user to read). The best fallback level of
    the ladder that has something to say answers: stored embedding, fold-in of the history, snapshot in
    the version, session, trending or popular.
    """
    return pipeline.run([(query, features)], catalogue, trends, trace)[0]


def recommend_many(
    queries: Sequence[QueryFeatures], catalogue: Catalogue, trends: Trends = NO_TRENDS, trace: Trace | None = None
) -> list[Recommendation]:
    """One recommendation per query, as `recommend` makes it."""
    return PIPELINE.run(queries, catalogue, trends, trace)


def still_allowed(ranking: Recommendation, query: Query, catalogue: Catalogue) -> Recommendation:
    """The items of an earlier ranking that `query` still allows: available, passing the filters, not excluded."""
    draft = Draft(query, None, catalogue, NO_TRENDS, query.k, frozenset())
    find_rows([draft])
    # Rows after the version's own are items that came later, and others in every worker.
    in_version = (ranking.rows >= 0) & (ranking.rows < len(catalogue.index))
    rows = np.where(in_version, ranking.rows, 0)
    mask = in_version & ~np.isin(rows, list(draft.excluded))
    if draft.allowed is not None:
        mask &= draft.allowed.mask[rows]
    return ranking.only(np.flatnonzero(mask))


def has_masks(queries: Sequence[Query], catalogue: Catalogue) -> bool:
    """Whether the masks of all these queries are cached; a new filter is work for a thread."""
    return all(query.is_plain or catalogue.has_mask(query.conditions) for query in queries)


def sources_of(placement: Placement) -> frozenset[Source]:
    """The sources of candidates and of the fallback of `placement`."""
    return frozenset((*(candidates.source for candidates in placement.sources), *placement.fallback))


def _shortage(draft: Draft) -> str:
    catalogue = draft.catalogue
    may = len(catalogue) if draft.allowed is None else draft.allowed.count
    return (
        f"{len(draft.ranked)} of {draft.query.k}: of {len(catalogue)} items {may} are available and pass the filters, "
        f"{len(draft.excluded)} are excluded, and the placement's sources have no more"
    )
