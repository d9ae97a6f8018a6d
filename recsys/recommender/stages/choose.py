"""Choose and Fill: the first k under the cap per category, and what is missing from the fallback sources."""

from collections import Counter
from collections.abc import Sequence

from recsys.catalogue.catalogue import Catalogue
from recsys.recommender.candidates.source import Sources
from recsys.recommender.draft import Draft
from recsys.recommender.placement import Placement
from recsys.recommender.query import MAX_POOL
from recsys.recommender.ranked import RankedList
from recsys.recommender.stages.stage import Removed, Stage


class Choose(Stage):
    """Takes the first k, with no category more than the placement's `max_per_category` times."""

    name = "choice"

    def chooses(self, placement: Placement) -> bool:
        """Where there is a cap."""
        return placement.max_per_category is not None

    def run(self, drafts: Sequence[Draft], _: Sources) -> None:
        """Leave at most k in `ranked`."""
        for draft in drafts:
            per_category, k = draft.query.placement.max_per_category, draft.query.k
            if per_category is None:
                draft.ranked = draft.ranked.head(k)
            else:
                draft.ranked = capped(draft.ranked, per_category, k, Counter(), draft.catalogue)

    def removal(self, draft: Draft, row: int, previous: RankedList) -> Removed:
        """The cap, for an item that stood high enough, else k."""
        rank, k = previous.rows.tolist().index(row) + 1, draft.query.k
        if rank <= k:
            return Removed("max_per_category", f"at rank {rank}, but a category of it is full")
        return Removed("k", f"it comes at rank {rank}, and {k} were asked for")


class Fill(Stage):
    """Fills what is missing to k from the fallback sources in their order, under the same cap."""

    name = "answer"

    def run(self, drafts: Sequence[Draft], sources: Sources) -> None:
        """Add to `ranked`."""
        for draft in drafts:
            if len(draft.ranked.rows) < draft.query.k:
                self._fill(draft, sources)

    def _fill(self, draft: Draft, sources: Sources) -> None:
        k, per_category = draft.query.k, draft.query.placement.max_per_category
        used = Counter[str]()
        if per_category is not None:
            for categories in draft.catalogue.categories_of(draft.ranked.rows):
                used.update(categories)
        for source in draft.query.placement.fallback:
            missing = k - len(draft.ranked)
            if not missing:
                break
            excluded = draft.excluded | frozenset(draft.ranked.rows.tolist())
            count = missing if per_category is None else MAX_POOL
            extra = RankedList.of(source, sources[source].candidates(draft, count, excluded))
            if per_category is not None:
                extra = capped(extra, per_category, missing, used, draft.catalogue)
            draft.ranked = draft.ranked.joined(extra)


def capped(ranked: RankedList, per_category: int, count: int, used: Counter[str], catalogue: Catalogue) -> RankedList:
    """The first `count` with no category more than `per_category` times; counts those of `used` and adds to it."""
    positions: list[int] = []
    for position, categories in enumerate(catalogue.categories_of(ranked.rows)):
        if len(positions) == count:
            break
        if all(used[name] < per_category for name in categories):
            used.update(categories)
            positions.append(position)
    return ranked.only(positions)
