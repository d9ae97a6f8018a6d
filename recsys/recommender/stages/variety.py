"""Rotate and Diversify: other items than last time, and items that differ from each other."""

from collections.abc import Sequence, Set

import numpy as np

from recsys.catalogue.catalogue import Catalogue
from recsys.recommender.candidates.source import Sources
from recsys.recommender.draft import Draft
from recsys.recommender.placement import Placement
from recsys.recommender.ranked import RankedList
from recsys.recommender.stages.stage import Stage

MAX_DIVERSE = 100
"""Places that are diversified; diversifying further pages costs more than it is worth."""


class Rotate(Stage):
    """Moves what was shown to the user within the placement's `rotate_hours` behind the rest."""

    name = "rotation"

    def chooses(self, placement: Placement) -> bool:
        """Where rotation is on."""
        return bool(placement.rotate_hours)

    def run(self, drafts: Sequence[Draft], _: Sources) -> None:
        """Put the rows into their new order."""
        for draft in drafts:
            if draft.shown:
                draft.ranked = rotated(draft.ranked, draft.shown)


def rotated(ranked: RankedList, shown: Set[int]) -> RankedList:
    """`ranked` with the rows in `shown` moved to the end."""
    late = [row in shown for row in ranked.rows.tolist()]
    places = range(len(ranked))
    return ranked.only([*(p for p in places if not late[p]), *(p for p in places if late[p])])


class Diversify(Stage):
    """Trades relevance for difference, by the placement's `diversity`."""

    name = "diversity"

    def chooses(self, placement: Placement) -> bool:
        """Where diversity is on."""
        return bool(placement.diversity)

    def run(self, drafts: Sequence[Draft], _: Sources) -> None:
        """Put the rows into their new order."""
        for draft in drafts:
            diversity = draft.query.placement.diversity
            if diversity:
                draft.ranked = diversified(draft.ranked, diversity, draft.query.k, draft.catalogue)


def diversified(ranked: RankedList, diversity: float, count: int, catalogue: Catalogue) -> RankedList:
    """Maximal marginal relevance (Carbonell & Goldstein, SIGIR 1998) over the item factors.

    The next place goes to the largest (1 - diversity) * relevance - diversity * greatest cosine with what stands
    before it. Relevance falls linearly with rank, because scores of several sources have no common unit.
    """
    picks = min(count, len(ranked), MAX_DIVERSE)
    if picks < 2:
        return ranked
    vectors = catalogue.vectors(ranked.rows)
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    value = (1.0 - diversity) * (1.0 - np.arange(len(ranked)) / len(ranked))
    nearest = np.full(len(ranked), -1.0)
    order = []
    for _ in range(picks):
        pick = int(np.argmax(value - diversity * nearest))
        order.append(pick)
        nearest = np.maximum(nearest, vectors @ vectors[pick])
        value[pick] = -np.inf
    picked = set(order)
    return ranked.only([*order, *(position for position in range(len(ranked)) if position not in picked)])
