"""CandidateSource: what every source answers to, and how rows that may be shown are picked."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence, Set
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from recsys.index.allowed import AllowedRows
from recsys.recommender.draft import Draft
from recsys.recommender.placement import Source
from recsys.recommender.query import FallbackLevel
from recsys.recommender.ranked import Ranked, Rows, Scores

FIRST_BLOCK = 256
MAX_CONTRIBUTIONS = 10
VECTOR, SESSION_VECTOR, ANCHORS = "vector", "session_vector", "anchors"
"""What a source may need: the fields of `Draft` that are filled only for those that do."""


class Contribution(msgspec.Struct, frozen=True):
    """How much of the score one of the user's own items accounts for."""

    item_id: str
    score: float


Contributions = Callable[[int], list[Contribution]]
"""From an item's row to what each of the user's own items adds to its score."""


class CandidateSource(Protocol):
    """A way to propose items: pure, synchronous, the same offline and online."""

    @property
    def name(self) -> Source:
        """The source in placements and answers."""

    @property
    def needs(self) -> Set[str]:
        """The fields of `Draft` that it goes by, of `VECTOR`, `SESSION_VECTOR` and `ANCHORS`."""

    def candidates(self, draft: Draft, count: int, excluded: frozenset[int]) -> Ranked:
        """Up to `count` rows outside `excluded`; nothing where there is nothing to go by."""

    def fallback_level(self, draft: Draft) -> FallbackLevel:
        """How good an answer with its items is."""

    def contributions(self, draft: Draft) -> Contributions:
        """What the user's own items add to the score of an item."""


class Sources:
    """The sources of a pipeline by name, and which of them need what."""

    def __init__(self, sources: Iterable[CandidateSource]) -> None:
        self._by_name = {source.name: source for source in sources}
        self._needing = {
            field: frozenset(name for name, source in self._by_name.items() if field in source.needs)
            for field in (VECTOR, SESSION_VECTOR, ANCHORS)
        }

    def __getitem__(self, name: Source) -> CandidateSource:
        return self._by_name[name]

    def needing(self, field: str) -> frozenset[Source]:
        """The names of the sources that need this field of `Draft`."""
        return self._needing[field]


class AnchorSource(ABC):
    """A source that goes by the items at hand: those of this visit, the cart, or the user's last ones."""

    needs = frozenset({ANCHORS})

    @abstractmethod
    def propose(self, draft: Draft, count: int, excluded: frozenset[int]) -> Ranked:
        """Up to `count` rows outside `excluded`, which has the anchors too."""

    @abstractmethod
    def weights(self, draft: Draft, row: int) -> Scores:
        """What each anchor (n,) adds to the score of an item."""

    def candidates(self, draft: Draft, count: int, excluded: frozenset[int]) -> Ranked:
        """The rows that the anchors lead to; an item does not lead to itself."""
        return self.propose(draft, count, excluded | frozenset(draft.anchors.tolist()))

    def fallback_level(self, _: Draft) -> FallbackLevel:
        """The session's."""
        return FallbackLevel.SESSION

    def contributions(self, draft: Draft) -> Contributions:
        """What each anchor adds to the score."""
        ids = draft.catalogue.ids(draft.anchors)
        return lambda row: largest(ids, self.weights(draft, row))


def no_contributions(_: int) -> list[Contribution]:
    """Nothing of the user's own plays a part."""
    return []


def vector_contributions(draft: Draft, history: str) -> Contributions:
    """What the items of the `history` (a field of `draft`) add to a score that is an inner product."""
    entries, catalogue = getattr(draft, history), draft.catalogue
    liked_parts = catalogue.index.parts(entries) if entries else None
    if liked_parts is None:
        return no_contributions
    liked, parts = liked_parts
    return lambda row: largest(liked, parts @ catalogue.vectors(np.array([row]))[0])


def largest(ids: Sequence[str], scores: Scores) -> list[Contribution]:
    """The contributions of greatest absolute value, at most `MAX_CONTRIBUTIONS`, without zeros."""
    order = np.argsort(-np.abs(scores), kind="stable")[:MAX_CONTRIBUTIONS].tolist()
    return [
        Contribution(ids[position], round(float(scores[position]), 6)) for position in order if scores[position] != 0.0
    ]


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
