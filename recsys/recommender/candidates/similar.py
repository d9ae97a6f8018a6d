"""Items similar to those at hand."""

import numpy as np

from recsys.catalogue.catalogue import Catalogue
from recsys.index.allowed import AllowedRows
from recsys.recommender.candidates.source import AnchorSource, best
from recsys.recommender.draft import Draft
from recsys.recommender.placement import Source
from recsys.recommender.ranked import NOTHING, Ranked, Rows, Scores

EXACT_SIMILAR = 20_000
"""Items up to which cosines are computed for every one of them; above, the search index proposes candidates."""
PROPOSED = 20
"""Candidates the search index proposes per similar item wanted: it ranks by inner product, not by cosine."""


class Similar(AnchorSource):
    """Nearest by cosine to the items of this visit, the cart, or the user's last ones."""

    name = Source.SIMILAR

    def propose(self, draft: Draft, count: int, excluded: frozenset[int]) -> Ranked:
        """The items nearest to the anchors."""
        return similar(draft.catalogue, draft.anchors, draft.allowed, excluded, count)

    def weights(self, draft: Draft, row: int) -> Scores:
        """What each anchor adds to the cosine with their sum."""
        return cosines(draft.catalogue, draft.anchors, row)


def similar(
    catalogue: Catalogue, anchors: Rows, allowed: AllowedRows | None, excluded: frozenset[int], count: int
) -> Ranked:
    """The items nearest to the anchors: by cosine, in [-1, 1], with the sum of the anchors' unit vectors."""
    if not len(anchors):
        return NOTHING
    index = catalogue.index
    vectors = catalogue.vectors(anchors)
    direction = (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)).sum(axis=0)
    length = float(np.linalg.norm(direction))
    if length == 0.0:
        return NOTHING
    direction = (direction / length).astype(np.float32)
    if len(index) <= EXACT_SIMILAR:
        rows = np.arange(len(index))
        scores = (index.item_factors @ direction) * index.inverse_norms
    else:
        proposed, inner = index.search(direction[None, :], PROPOSED * count + len(excluded), allowed)
        rows = proposed[0][proposed[0] >= 0]
        scores = inner[0][: len(rows)] * index.inverse_norms[rows]
    return best(rows, scores, allowed, excluded, count)


def cosines(catalogue: Catalogue, anchors: Rows, row: int) -> Scores:
    """(m,) what each anchor adds to the cosine of `row` with their sum."""
    vectors = catalogue.vectors(np.append(anchors, row))
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    scores: Scores = vectors[:-1] @ vectors[-1] / np.linalg.norm(vectors[:-1].sum(axis=0))
    return scores
