"""Items bought together with those at hand."""

import numpy as np

from recsys.catalogue.catalogue import Catalogue
from recsys.index.allowed import AllowedRows
from recsys.recommender.candidates.source import AnchorSource, best
from recsys.recommender.draft import Draft
from recsys.recommender.placement import Source
from recsys.recommender.ranked import NOTHING, Ranked, Rows, Scores


class CoOccurrence(AnchorSource):
    """Most often bought together with the items of this visit, the cart, or the user's last ones."""

    name = Source.CO_OCCURRENCE

    def propose(self, draft: Draft, count: int, excluded: frozenset[int]) -> Ranked:
        """The items bought with the anchors."""
        return co_occurrence(draft.catalogue, draft.anchors, draft.allowed, excluded, count)

    def weights(self, draft: Draft, row: int) -> Scores:
        """What each anchor adds to the summed co-occurrence."""
        return of_anchors(draft.catalogue, draft.anchors, row)


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
