"""Changes: items of a version in a newer state, cheap to keep and to filter by the hundred thousand."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import msgspec
import numpy as np
from numpy.typing import NDArray

from recsys.filters.condition import AllOf
from recsys.filters.expression import Expression
from recsys.index.attributes import Attributes, Mask
from recsys.messages.item import Item, stored_item

MIN_SEGMENT = 2000
LOOSE_SHARE = 16
"""One in so many changes may be loose before the loose ones become a segment."""
MAX_SEGMENTS = 128

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Segment:
    """The columns of the items that rows (m,) had when it was made."""

    rows: NDArray[np.int64]
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class Changes:
    """The newest state of each changed row: as JSON, which the garbage collector does not look at.

    Filters read `segments`, a later one before an earlier, and then the few `loose` rows that changed since.
    """

    raw: Mapping[int, bytes] = field(default_factory=dict)
    segments: tuple[Segment, ...] = ()
    loose: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.raw)

    def __contains__(self, row: int) -> bool:
        return row in self.raw

    def item(self, row: int) -> Item | None:
        """The newest state of the item at `row`, `None` where it did not change."""
        raw = self.raw.get(row)
        return None if raw is None else stored_item(raw)

    def _item_at(self, rows: NDArray[np.int64], position: int) -> Item | None:
        return self.item(int(rows[position]))

    def updated(self, items: Mapping[int, Item]) -> "Changes":
        """These changes with `items` by row added."""
        raw = {**self.raw, **{row: _encode(item) for row, item in items.items()}}
        loose = self.loose | items.keys()
        if len(loose) < max(MIN_SEGMENT, len(raw) // LOOSE_SHARE):
            return Changes(raw, self.segments, loose)
        if len(self.segments) < MAX_SEGMENTS:
            return Changes(raw, (*self.segments, _segment(raw, items, loose)))
        return Changes(raw, (_segment(raw, items, raw),))

    def mark(self, mask: Mask, conditions: Sequence[Expression]) -> None:
        """Set in `mask` what is allowed of the changed rows."""
        for segment in self.segments:
            mask[segment.rows] = segment.attributes.allowed(conditions, partial(self._item_at, segment.rows))
        if self.loose:
            loose = list(self.loose)
            mask[loose] = passing(map(self.item, loose), conditions)


def passing(items: Iterable[Item | None], conditions: Sequence[Expression]) -> list[bool]:
    """Return whether each of `items` is available and passes every condition; takes half a microsecond each."""
    holds = AllOf(tuple(condition.root for condition in conditions), 0).holds
    return [(item is None or item.available is not False) and holds(item) for item in items]


def _segment(raw: Mapping[int, bytes], decoded: Mapping[int, Item], rows: Iterable[int]) -> Segment:
    ordered = sorted(rows)
    items = [decoded[row] if row in decoded else stored_item(raw[row]) for row in ordered]
    return Segment(np.array(ordered, np.int64), Attributes.of(items))
