"""Candidate generation: one function per source, each giving rows that may be shown, best first."""

from collections.abc import Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.catalogue import Catalogue
from recsys.catalogue.new_items import MAX_NEW
from recsys.index.allowed import AllowedRows
from recsys.users import Vector

EXACT_SIMILAR = 20_000
"""Items up to which cosines are computed for every one of them; above, the search index proposes candidates."""
PROPOSED = 20
"""Candidates the search index proposes per similar item wanted: it ranks by inner product, not by cosine."""
FIRST_BLOCK = 256

Rows = NDArray[np.int64]
Scores = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Ranked:
    """`rows` (m,) of the catalogue with `scores` (m,), best first."""

    rows: Rows
    scores: Scores

    def __len__(self) -> int:
        return len(self.rows)

    def only(self, places: list[int] | NDArray[np.int64] | slice) -> "Ranked":
        """The rows at these positions, in this order."""
        return Ranked(self.rows[places], self.scores[places])


NOTHING = Ranked(np.empty(0, np.int64), np.empty(0, np.float32))


def without(ranked: Ranked, excluded: Set[int], count: int) -> Ranked:
    """The first `count` that are not excluded; for the few dozen rows of an answer a set beats np.isin."""
    if not excluded:
        return ranked.only(slice(count))
    return ranked.only([position for position, row in enumerate(ranked.rows.tolist()) if row not in excluded][:count])


def best(rows: Rows, scores: Scores, allowed: AllowedRows | None, excluded: Set[int], count: int) -> Ranked:
    """The `count` largest of `scores` (m,) among `rows` (m,) that may be shown; ties by row."""
    if allowed is not None:
        mask = allowed.mask[rows]
        rows, scores = rows[mask], scores[mask]
    limit = count + len(excluded)
    if len(rows) > limit:
        top = np.argpartition(-scores, limit)[: limit + 1]
        rows, scores = rows[top], scores[top]
    order = np.lexsort((rows, -scores))
    return without(Ranked(rows[order], scores[order]), excluded, count)


def first(ordered: Rows, allowed: AllowedRows | None, excluded: Set[int], count: int) -> NDArray[np.int64]:
    """Places of the first `count` of `ordered` (m,) that may be shown.

    Looks at ever larger blocks: an answer needs ten of a million.
    """
    places: list[int] = []
    start, size = 0, max(FIRST_BLOCK, count + len(excluded))
    while len(places) < count and start < len(ordered):
        block = ordered[start : start + size]
        may = range(len(block)) if allowed is None else np.flatnonzero(allowed.mask[block]).tolist()
        rows = block.tolist()
        places += [start + offset for offset in may if rows[offset] not in excluded][: count - len(places)]
        start, size = start + size, 2 * size
    return np.array(places, dtype=np.int64)


def popular(catalogue: Catalogue, allowed: AllowedRows | None, excluded: Set[int], count: int) -> Ranked:
    """The most popular items; scores in [0, 1]."""
    index = catalogue.index
    rows = index.popular_rows[first(index.popular_rows, allowed, excluded, count)]
    return Ranked(rows, index.popularity[rows])


def trending(trends: Ranked, allowed: AllowedRows | None, excluded: Set[int], count: int) -> Ranked:
    """The first of `trends` that may be shown, with their scores."""
    return trends.only(first(trends.rows, allowed, excluded, count))


def similar(catalogue: Catalogue, anchors: Rows, allowed: AllowedRows | None, excluded: Set[int], count: int) -> Ranked:
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


def co_occurrence(
    catalogue: Catalogue, anchors: Rows, allowed: AllowedRows | None, excluded: Set[int], count: int
) -> Ranked:
    """The items most often bought with the anchors, by summed co-occurrence."""
    neighbours = [catalogue.index.together.of(row) for row in anchors.tolist() if row < len(catalogue.index)]
    if not neighbours:
        return NOTHING
    rows, places = np.unique(np.concatenate([rows for rows, _ in neighbours]).astype(np.int64), return_inverse=True)
    scores = np.bincount(places, np.concatenate([scores for _, scores in neighbours]), len(rows)).astype(np.float32)
    return best(rows, scores, allowed, excluded, count)


def new(
    catalogue: Catalogue, vector: Vector | None, allowed: AllowedRows | None, excluded: Set[int], count: int
) -> Ranked:
    """Items without interactions, by inner product with the user's vector; the latest first where there is none."""
    rows = catalogue.new_rows[-MAX_NEW:]
    if vector is None:
        latest = rows[::-1][first(rows[::-1], allowed, excluded, count)]
        return Ranked(latest, np.zeros(len(latest), np.float32))
    return best(rows, catalogue.vectors(rows) @ vector, allowed, excluded, count)
