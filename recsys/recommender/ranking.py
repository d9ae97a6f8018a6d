"""Ranking: from one list per source to the order in which items are shown."""

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np

from recsys.expression import compile_expression
from recsys.placement import Boost, Source
from recsys.recommender.candidates import Ranked, Rows, Scores
from recsys.recommender.catalogue import Catalogue

MAX_DIVERSE = 100
"""Places that are diversified; a page further down costs more than anybody sees of it."""


@dataclass(frozen=True, slots=True)
class Mixed:
    """Ranked rows of several sources; `sources[i]` is where `rows[i]` came from."""

    rows: Rows
    scores: Scores
    sources: tuple[Source, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def head(self, count: int) -> "Mixed":
        return self if len(self) <= count else Mixed(self.rows[:count], self.scores[:count], self.sources[:count])

    def only(self, places: Sequence[int]) -> "Mixed":
        chosen = list(places)
        return Mixed(self.rows[chosen], self.scores[chosen], tuple(self.sources[place] for place in chosen))


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


def interleaved(lists: Sequence[tuple[Source, float, Ranked]]) -> Mixed:
    """Every list in its own order, the next place always to the list that is furthest behind its share.

    Smooth weighted round-robin, as in nginx: among equals the earlier list goes first. A row that an earlier
    place took is passed over; a list that has ended leaves its places to the others.
    """
    if len(lists) == 1:
        source, _, only = lists[0]
        return Mixed(only.rows, only.scores, (source,) * len(only))
    remaining = [iter(zip(one.rows.tolist(), one.scores.tolist(), strict=True)) for _, _, one in lists]
    credit = [0.0] * len(lists)
    running = list(range(len(lists)))
    taken: set[int] = set()
    rows, scores, sources = [], [], []
    while running:
        for place in running:
            credit[place] += lists[place][1]
        turn = max(running, key=lambda place: credit[place])
        found = next((one for one in remaining[turn] if one[0] not in taken), None)
        if found is None:
            running.remove(turn)
            continue
        credit[turn] -= sum(lists[place][1] for place in running)
        taken.add(found[0])
        rows.append(found[0])
        scores.append(found[1])
        sources.append(lists[turn][0])
    return Mixed(np.array(rows, np.int64), np.array(scores, np.float32), tuple(sources))


def rotated(mixed: Mixed, shown: Set[int]) -> Mixed:
    """What was shown lately behind everything else."""
    if not shown:
        return mixed
    late = [row in shown for row in mixed.rows.tolist()]
    places = range(len(mixed))
    return mixed.only([*(p for p in places if not late[p]), *(p for p in places if late[p])])


def diversified(mixed: Mixed, diversity: float, count: int, catalogue: Catalogue) -> Mixed:
    """Maximal marginal relevance (Carbonell & Goldstein, SIGIR 1998) over the item factors.

    The next place goes to the largest (1 - diversity) * relevance - diversity * greatest cosine with what stands
    before it. Relevance falls linearly with rank, because scores of several sources have no common unit.
    """
    picks = min(count, len(mixed), MAX_DIVERSE)
    if diversity == 0.0 or picks < 2:
        return mixed
    vectors = catalogue.vectors(mixed.rows)
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    value = (1.0 - diversity) * (1.0 - np.arange(len(mixed)) / len(mixed))
    nearest = np.full(len(mixed), -1.0)
    order = []
    for _ in range(picks):
        place = int(np.argmax(value - diversity * nearest))
        order.append(place)
        nearest = np.maximum(nearest, vectors @ vectors[place])
        value[place] = -np.inf
    picked = set(order)
    return mixed.only([*order, *(place for place in range(len(mixed)) if place not in picked)])


def capped(mixed: Mixed, most: int, count: int, used: Counter[str], catalogue: Catalogue) -> Mixed:
    """The first `count` with no category more than `most` times; counts those of `used` and adds to it."""
    kept: list[int] = []
    for place, categories in enumerate(catalogue.categories_of(mixed.rows)):
        if len(kept) == count:
            break
        if all(used[name] < most for name in categories):
            used.update(categories)
            kept.append(place)
    return mixed.only(kept)


def joined(one: Mixed, other: Mixed) -> Mixed:
    return Mixed(
        np.concatenate([one.rows, other.rows]),
        np.concatenate([one.scores, other.scores]),
        one.sources + other.sources,
    )


def at_least(ranked: Ranked, source: Source, score: float) -> Ranked:
    """Personal items below `score` left out; other sources score by other measures."""
    return ranked.only(np.flatnonzero(ranked.scores >= score)) if source is Source.PERSONAL else ranked
