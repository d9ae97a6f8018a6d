"""Two ranked lists beside each other: what stays, what moves and what is in one of them only."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mark:
    """Of one item: its rank (from 1) here and in the other list, `None` where that has not got it."""

    here: int
    there: int | None

    @property
    def words(self) -> str:
        """`only here`, `same place`, or by how many places it stands higher or lower here."""
        if self.there is None:
            return "only here"
        if self.there == self.here:
            return "same place"
        return f"{abs(self.there - self.here)} {'higher' if self.here < self.there else 'lower'}"


def marks(here: Sequence[str], there: Sequence[str]) -> list[Mark]:
    """One per item of `here`."""
    ranks = {item: rank for rank, item in enumerate(there, 1)}
    return [Mark(rank, ranks.get(item)) for rank, item in enumerate(here, 1)]


def overlap(one: Sequence[str], other: Sequence[str]) -> float:
    """The share of the longer list that is in both; 1 for two empty ones."""
    longer = max(len(one), len(other))
    return len({*one} & {*other}) / longer if longer else 1.0
