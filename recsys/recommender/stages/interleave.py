"""Interleave: one list out of those of several sources, each with its share of the places."""

from collections.abc import Sequence

import numpy as np

from recsys.recommender.candidates.source import Sources
from recsys.recommender.draft import Draft, SourceList
from recsys.recommender.placement import Placement
from recsys.recommender.ranked import RankedList
from recsys.recommender.stages.stage import Stage


class Interleave(Stage):
    """Merges the lists by the shares that the placement gives the sources."""

    name = "interleaving"

    def chooses(self, placement: Placement) -> bool:
        """Where there are several sources."""
        return len(placement.sources) > 1

    def run(self, drafts: Sequence[Draft], _: Sources) -> None:
        """Make `ranked` of `lists`."""
        for draft in drafts:
            draft.ranked = interleaved(draft.lists)


def interleaved(lists: Sequence[SourceList]) -> RankedList:
    """The lists merged, each in its own order; the next position goes to the list furthest behind its share.

    Smooth weighted round-robin, as in nginx: among equals the earlier list goes first. A row that an earlier
    place took is passed over; a list that has ended leaves its places to the others.
    """
    if len(lists) == 1:
        source, _, only = lists[0]
        return RankedList.of(source, only)
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
