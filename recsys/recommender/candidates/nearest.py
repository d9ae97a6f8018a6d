"""Items nearest to a vector by inner product: the user's, and the session's; a batch shares the searches."""

from collections.abc import Sequence

import numpy as np

from recsys.recommender.candidates.source import (
    SESSION_VECTOR,
    VECTOR,
    Contributions,
    vector_contributions,
    without,
)
from recsys.recommender.draft import Draft
from recsys.recommender.placement import Source
from recsys.recommender.query import FallbackLevel
from recsys.recommender.ranked import Ranked
from recsys.users import Vector


class Personal:
    """Nearest to the user's vector."""

    name = Source.PERSONAL
    needs = frozenset({VECTOR})

    def candidates(self, draft: Draft, count: int, excluded: frozenset[int]) -> Ranked:
        """Those that `search` has found."""
        return without(draft.nearest, excluded, count)

    def fallback_level(self, draft: Draft) -> FallbackLevel:
        """Where the vector came from."""
        return draft.fallback_level

    def contributions(self, draft: Draft) -> Contributions:
        """What each item of the history adds to the inner product."""
        return vector_contributions(draft, "entries")


class Session:
    """Nearest to a vector folded in from this visit and cart alone."""

    name = Source.SESSION
    needs = frozenset({SESSION_VECTOR})

    def candidates(self, draft: Draft, count: int, excluded: frozenset[int]) -> Ranked:
        """Those that `search` has found."""
        return without(draft.nearest_to_session, excluded, count)

    def fallback_level(self, _: Draft) -> FallbackLevel:
        """The session's."""
        return FallbackLevel.SESSION

    def contributions(self, draft: Draft) -> Contributions:
        """What each item at hand adds to the inner product."""
        return vector_contributions(draft, "session_entries")


def search(drafts: Sequence[Draft]) -> None:
    """Search for the vectors of drafts of one catalogue; those with the same filter are searched for together."""
    groups: dict[int, list[tuple[Draft, str, Vector, int]]] = {}
    for draft in drafts:
        limit = draft.pool + len(draft.excluded)
        if draft.vector is not None and Source.PERSONAL in draft.sources:
            groups.setdefault(id(draft.allowed), []).append((draft, "nearest", draft.vector, limit))
        if draft.session_vector is not None and Source.SESSION in draft.sources:
            groups.setdefault(id(draft.allowed), []).append((draft, "nearest_to_session", draft.session_vector, limit))
    for group in groups.values():
        vectors, leader = np.stack([vector for _, _, vector, _ in group]), group[0][0]
        rows, scores = leader.catalogue.index.search(vectors, max(limit for *_, limit in group), leader.allowed)
        for at, (draft, field, _, limit) in enumerate(group):
            # Rows that do not exist (-1) come last.
            end = limit if rows[at, -1] >= 0 else min(limit, int(np.count_nonzero(rows[at] >= 0)))
            setattr(draft, field, Ranked(rows[at, :end], scores[at, :end]))
