"""Ranked rows: those of one source, and those of several sources merged into one order."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.recommender.placement import Source

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


@dataclass(frozen=True, slots=True)
class RankedList:
    """Ranked rows of several sources; `sources[i]` is where `rows[i]` came from."""

    rows: Rows
    scores: Scores
    sources: tuple[Source, ...]

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def of(cls, source: Source, ranked: Ranked) -> "RankedList":
        """The rows of one source."""
        return cls(ranked.rows, ranked.scores, (source,) * len(ranked.rows))

    def head(self, count: int) -> "RankedList":
        """The first `count` rows."""
        return (
            self
            if len(self.rows) <= count
            else RankedList(self.rows[:count], self.scores[:count], self.sources[:count])
        )

    def only(self, places: Sequence[int]) -> "RankedList":
        """The rows at these positions, in this order."""
        chosen = list(places)
        return RankedList(self.rows[chosen], self.scores[chosen], tuple(self.sources[position] for position in chosen))

    def joined(self, following: "RankedList") -> "RankedList":
        """These rows and then those of `following`."""
        return RankedList(
            np.concatenate([self.rows, following.rows]),
            np.concatenate([self.scores, following.scores]),
            self.sources + following.sources,
        )
