"""Search and Retrieve: the candidates of every source of a placement, and why an item is not among them."""

from collections.abc import Sequence

import numpy as np

from recsys.catalogue.catalogue import Catalogue
from recsys.recommender.candidates.nearest import search
from recsys.recommender.candidates.source import Sources
from recsys.recommender.draft import Draft
from recsys.recommender.placement import Source
from recsys.recommender.query import Query
from recsys.recommender.ranked import Ranked, RankedList
from recsys.recommender.stages.hydrate import seen_items
from recsys.recommender.stages.interleave import interleaved
from recsys.recommender.stages.stage import Removed, Stage


class Search(Stage):
    """Searches for all vectors of the batch, for the sources that go by one."""

    name = "search"

    def run(self, drafts: Sequence[Draft], _: Sources) -> None:
        """Fill `nearest`."""
        search(drafts)

    def order(self, _: Draft) -> None:
        """None yet."""


class Retrieve(Stage):
    """Asks each source of the placement; personal items below its `min_score` are left out."""

    name = "candidates"

    def run(self, drafts: Sequence[Draft], sources: Sources) -> None:
        """Fill `lists`."""
        for draft in drafts:
            placement = draft.query.placement
            draft.lists = [
                (own.source, own.share, sources[own.source].candidates(draft, draft.pool, draft.excluded))
                for own in placement.sources
            ]
            least = placement.min_score
            if least is not None:
                draft.lists = [
                    (source, share, at_least(ranked, source, least)) for source, share, ranked in draft.lists
                ]

    def order(self, draft: Draft) -> RankedList:
        """The order they would be shown in as they are."""
        return interleaved(draft.lists)

    def removal(self, draft: Draft, row: int, _: RankedList) -> Removed:
        """What the item itself does not fulfil, else that no source proposes it."""
        return _not_allowed(draft, row) or _not_proposed(draft, row, len(self.order(draft)))


def at_least(ranked: Ranked, source: Source, score: float) -> Ranked:
    """Personal items below `score` left out; other sources score by other measures."""
    return ranked.only(np.flatnonzero(ranked.scores >= score)) if source is Source.PERSONAL else ranked


def _not_allowed(draft: Draft, row: int) -> Removed | None:
    query, item, item_id = draft.query, draft.catalogue.item(row), _id_of(draft.catalogue, row)
    if item is not None and item.available is False:
        return Removed("available", "the item is not available")
    for name, expression in zip(_filters_of(query), query.conditions, strict=True):
        if not expression.matches(item):
            return Removed("filter", f"the {name} asks for {expression.text}")
    if item_id in query.exclude or item_id in query.visit:
        return Removed("exclude", "the request names it as excluded, or as an item of this visit")
    if item_id in seen_items(query, draft.features):
        return Removed("seen", "the user had it before, and the placement leaves that out")
    return None


def _filters_of(query: Query) -> list[str]:
    """Whose the `conditions` are."""
    return ["placement's filter"] * bool(query.placement.filter) + ["request's filter"] * (query.filter is not None)


def _not_proposed(draft: Draft, row: int, candidates: int) -> Removed:
    least, note = draft.query.placement.min_score, ""
    if draft.vector is not None:
        score = float(draft.catalogue.vectors(np.array([row]))[0] @ draft.vector)
        if least is not None and score < least:
            return Removed("min_score", f"its personal score {score:.4g} is below {least:g}")
        note = f"; its personal score is {score:.4g}"
    return Removed("candidates", f"no source ranks it among its first {candidates}{note}")


def _id_of(catalogue: Catalogue, row: int) -> str:
    return catalogue.ids(np.array([row]))[0]
