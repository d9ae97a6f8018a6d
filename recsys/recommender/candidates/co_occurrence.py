"""Items bought together with those at hand."""

import numpy as np

from recsys.catalogue.catalogue import Catalogue
from recsys.index.allowed import AllowedRows
from recsys.recommender.candidates.source import ANCHORS, Contributions, best, largest
from recsys.recommender.draft import Draft
from recsys.recommender.placement import Source
from recsys.recommender.query import FallbackLevel
from recsys.recommender.ranked import NOTHING, Ranked, Rows, Scores


class CoOccurrence:
    """Most often bought together with the items of this visit, the cart, or the user's last ones."""

    name = Source.CO_OCCURRENCE
    needs = frozenset({ANCHORS})

    def candidates(self, draft: Draft, count: int, excluded: frozenset[int]) -> Ranked:
        """The items bought with the anchors; an item is not its own neighbour."""
        beside = excluded | frozenset(draft.anchors.tolist())
        return co_occurrence(draft.catalogue, draft.anchors, draft.allowed, beside, count)

    def fallback_level(self, _: Draft) -> FallbackLevel:
        """The session's."""
        return FallbackLevel.SESSION

    def contributions(self, draft: Draft) -> Contributions:
        """What each anchor adds to the summed co-occurrence."""
        catalogue, anchors, ids = draft.catalogue, draft.anchors, draft.catalogue.ids(draft.anchors)
        return lambda row: largest(ids, of_anchors(catalogue, anchors, row))


def co_occurrence(
    catalogue: Catalogue, anchors: Rows, allowed: AllowedRows | None, excluded: frozenset[int], count: int
) -> Ranked:
    """The items most often bought with the anchors, by summed co-occurrence."""
    neighbours = [catalogue.index.co_occurrence.of(row) for row in anchors.tolist() if row < len(catalogue.index)]
    if not neighbours:
        return NOTHING
    rows, places = np.unique(np.concatenate([rows for rows, _ in neighbours]).astype(np.int64), return_inverse=True)
    scores = np.bincount(places, np.concatenate([scores for _, scores in neighbours]), len(rows)).astype(np.float32)
    return best(rows, scores, allowed, excluded, count)


def of_anchors(catalogue: Catalogue, anchors: Rows, row: int) -> Scores:
    """(m,) what each anchor adds to the summed co-occurrence of `row`."""
    index = catalogue.index
    scores = np.zeros(len(anchors), np.float32)
    for position, anchor in enumerate(anchors.tolist()):
        if anchor < len(index):
            rows, values = index.co_occurrence.of(anchor)
            scores[position] = values[rows == row].sum()
    return scores
