"""Boost: scores multiplied by the placement's factors for what matches; each source's list in its new order."""

from collections.abc import Sequence

import numpy as np

from recsys.catalogue.catalogue import Catalogue
from recsys.filters.expression import compile_expression
from recsys.recommender.candidates.source import Sources
from recsys.recommender.draft import Draft
from recsys.recommender.placement import Boost, Placement
from recsys.recommender.ranked import Ranked, RankedList
from recsys.recommender.stages.interleave import interleaved
from recsys.recommender.stages.stage import Stage


class Boosts(Stage):
    """Applies the placement's `boosts` to each source's candidates."""

    name = "boosts"

    def chooses(self, placement: Placement) -> bool:
        """Where there is a boost."""
        return bool(placement.boosts)

    def run(self, drafts: Sequence[Draft], _: Sources) -> None:
        """Put each list into its new order."""
        for draft in drafts:
            boosts = draft.query.placement.boosts
            if boosts:
                draft.lists = [
                    (source, share, boosted(ranked, boosts, draft.catalogue)) for source, share, ranked in draft.lists
                ]

    def order(self, draft: Draft) -> RankedList:
        """The order the lists would be shown in as they are."""
        return interleaved(draft.lists)


def boosted(ranked: Ranked, boosts: Sequence[Boost], catalogue: Catalogue) -> Ranked:
    """Scores multiplied by the factors of the boosts that match, negative ones divided; in the new order."""
    if not len(ranked):
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
