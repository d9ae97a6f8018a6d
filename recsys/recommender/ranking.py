"""Ranking: from one list per source to the order in which items are shown."""

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np

from recsys.catalogue.catalogue import Catalogue
from recsys.filters.expression import compile_expression
from recsys.recommender.candidates import Ranked, Rows, Scores
from recsys.recommender.placement import Boost, Source

MAX_DIVERSE = 100
"""Places that are diversified; diversifying further pages costs more than it is worth."""


@dataclass(frozen=True, slots=True)
class RankedList:
    """Ranked rows of several sources; `sources[i]` is where `rows[i]` came from."""

    rows: Rows
    scores: Scores
    sources: tuple[Source, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def head(self, count: int) -> "RankedList":
        """The first `count` rows."""
        return self if len(self) <= count else RankedList(self.rows[:count], self.scores[:count], self.sources[:count])

    def only(self, places: Sequence[int]) -> "RankedList":
        """The rows at these positions, in this order."""
        chosen = list(places)
        return RankedList(self.rows[chosen], self.scores[chosen], tuple(self.sources[position] for position in chosen))


def boosted(ranked: Ranked, boosts: Sequence[Boost], catalogue: Catalogue) -> Ranked:
    """Scores multiplied by the factors of the boosts that match, negative ones divided; in the new order."""
    if not boosts or not len(ranked):
        return ranked
    factors = np.ones(len(ranked), np.float32)
    for boost in boosts:
        # Candidates are available already, so the mask of what may be shown is the mask of what matches.
        matching = catalogue.allowed((compile_expression(boost.when),))
        matched = np.ones(len(ranked), np.bool_) if matching is None else matching.mask[ranked.rows]
        factors[matched] *= np.float32(boost.factor)
    scores = np.where(ranked.scores < 0, ranked.scores / factors, ranked.scores * factors).astype(np.float32)
    order = np.argsort(-scores, kind="stable")
    return Ranked(ranked.rows[order], scores[order])


def interleaved(lists: Sequence[tuple[Source, float, Ranked]]) -> RankedList:
    """The lists merged, each in its own order; the next position goes to the list furthest behind its share.

    Smooth weighted round-robin, as in nginx: among equals the earlier list goes first. A row that an earlier
    place took is passed over; a list that has ended leaves its places to the others.
    """
    if len(lists) == 1:
        source, _, only = lists[0]
        return RankedList(only.rows, only.scores, (source,) * len(only))
    remaining = [iter(zip(ranked.rows.tolist(), ranked.scores.tolist(), strict=True)) for _, _, ranked in lists]
    credit = [0.0] * len(lists)
    running = list(range(len(lists)))
    used_rows: set[int] = set()
    rows, scores, sources = [], [], []
    while running:
        for index in running:
            credit[index] += lists[index][1]
        turn = max(running, key=lambda index: credit[index])
        candidate = next((pair for pair in remaining[turn] if pair[0] not in used_rows), None)
        if candidate is None:
            running.remove(turn)
            continue
        credit[turn] -= sum(lists[index][1] for index in running)
        used_rows.add(candidate[0])
        rows.append(candidate[0])
        scores.append(candidate[1])
        sources.append(lists[turn][0])
    return RankedList(np.array(rows, np.int64), np.array(scores, np.float32), tuple(sources))


def rotated(ranked: RankedList, shown: Set[int]) -> RankedList:
    """`ranked` with the rows in `shown` moved to the end."""
    if not shown:
        return ranked
    late = [row in shown for row in ranked.rows.tolist()]
    places = range(len(ranked))
    return ranked.only([*(p for p in places if not late[p]), *(p for p in places if late[p])])


def diversified(ranked: RankedList, diversity: float, count: int, catalogue: Catalogue) -> RankedList:
    """Maximal marginal relevance (Carbonell & Goldstein, SIGIR 1998) over the item factors.

    The next place goes to the largest (1 - diversity) * relevance - diversity * greatest cosine with what stands
    before it. Relevance falls linearly with rank, because scores of several sources have no common unit.
    """
    picks = min(count, len(ranked), MAX_DIVERSE)
    if diversity == 0.0 or picks < 2:
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


def joined(first: RankedList, second: RankedList) -> RankedList:
    """`first` and then `second`."""
    return RankedList(
        np.concatenate([first.rows, second.rows]),
        np.concatenate([first.scores, second.scores]),
        first.sources + second.sources,
    )


def at_least(ranked: Ranked, source: Source, score: float) -> Ranked:
    """Personal items below `score` left out; other sources score by other measures."""
    return ranked.only(np.flatnonzero(ranked.scores >= score)) if source is Source.PERSONAL else ranked
