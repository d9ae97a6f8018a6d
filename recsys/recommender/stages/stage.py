"""Stage: a step of the pipeline over a whole batch; what it does can be traced and explained."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import msgspec

from recsys.recommender.candidates.source import Sources
from recsys.recommender.draft import Draft
from recsys.recommender.placement import Placement
from recsys.recommender.ranked import RankedList


class Removed(msgspec.Struct, frozen=True):
    """The first stage that the item did not pass: `available`, `filter`, `exclude`, `seen`, `min_score`,
    `candidates`, `max_per_category` or `k`.
    """

    stage: str
    reason: str


class Stage(ABC):
    """A step of the pipeline: pure, synchronous, without state, the same offline and online."""

    name: ClassVar[str]
    """In the ranks of explanations."""

    def chooses(self, placement: Placement) -> bool:  # noqa: ARG002
        """Whether it chooses among more candidates than are shown; only then do sources give more than k."""
        return False

    @abstractmethod
    def run(self, drafts: Sequence[Draft], sources: Sources) -> None:
        """Change the drafts, which are of one catalogue."""

    def order(self, draft: Draft) -> RankedList | None:
        """The order of rows after this stage, for the trace; `None` while there is none."""
        return draft.ranked

    def removal(self, draft: Draft, row: int, previous: RankedList) -> Removed:  # noqa: ARG002
        """Why `row` is not in the order after this stage; it may have been in the `previous` one."""
        return Removed(self.name, f"the stage {self.name} leaves it out")


@dataclass(slots=True)
class Trace:
    """The record of one run, for its explanation: the draft, and after each stage that orders rows, their order."""

    draft: Draft | None = None
    sources: Sources | None = None
    orders: list[tuple[Stage, RankedList]] = field(default_factory=list)

    def record(self, stage: Stage, draft: Draft, sources: Sources) -> None:
        """Note the order of rows after `stage`."""
        self.draft, self.sources, order = draft, sources, stage.order(draft)
        if order is not None:
            self.orders.append((stage, order))
