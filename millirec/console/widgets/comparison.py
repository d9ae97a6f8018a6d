"""Comparison of two ranked lists: what stays, what moves and what is in one of them only."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mark:
    """An item's rank (from 1) in this list and in the other list, `None` where that does not have it."""

    rank: int
    other_rank: int | None

    @property
    def words(self) -> str:
        """`only here`, `same place`, or by how many places it stands higher or lower here."""
        if self.other_rank is None:
            return "only here"
        if self.other_rank == self.rank:
            return "same place"
        return f"{abs(self.other_rank - self.rank)} {'higher' if self.rank < self.other_rank else 'lower'}"


def marks(items: Sequence[str], other_items: Sequence[str]) -> list[Mark]:
    """Return one mark per item of `items`."""
    ranks = {item: rank for rank, item in enumerate(other_items, 1)}
    return [Mark(rank, ranks.get(item)) for rank, item in enumerate(items, 1)]


def overlap(first: Sequence[str], second: Sequence[str]) -> float:
    """Return the share of the longer list that is in both; 1 for two empty ones."""
    longer = max(len(first), len(second))
    return len({*first} & {*second}) / longer if longer else 1.0
