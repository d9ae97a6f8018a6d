"""Catalogue: a version's items with what changed since, as the masks and values a request needs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recsys.item import Item, PropertyValue
from recsys.recommendation import Filter
from recsys.recommender.id_map import UNKNOWN
from recsys.recommender.index import Index

MAX_CACHED_FILTERS = 256

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """`changed` maps rows to items newer than the version's own; `hidden` (n,) marks the unavailable ones.

    Immutable but for a bounded cache of filter masks; `updated` makes a new one.
    """

    index: Index
    changed: Mapping[int, Item]
    hidden: Mask
    hidden_count: int
    _masks: dict[object, Mask] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, index: Index) -> "Catalogue":
        """The catalogue as the trainer saw it; items that were unavailable then are hidden."""
        hidden = np.zeros(len(index), dtype=np.bool_)
        for row in range(len(index)):
            # A cheap look before decoding: a million items must not cost a million objects.
            raw = index.item_blob[index.item_offsets[row] : index.item_offsets[row + 1]].tobytes()
            hidden[row] = b'"available":false' in raw and _is_hidden(index.item(row))
        return cls(index, {}, hidden, int(hidden.sum()))

    def updated(self, items: Iterable[Item]) -> "Catalogue":
        """This catalogue after `items` (whole states, as the store keeps them); unknown items are passed over."""
        changed, hidden = dict(self.changed), self.hidden.copy()
        items = list(items)
        for item, row in zip(items, self.index.item_id.rows(one.item_id for one in items).tolist(), strict=True):
            if row == UNKNOWN:
                continue
            hidden[row] = _is_hidden(item)
            changed[row] = item
        return Catalogue(self.index, changed, hidden, int(hidden.sum()))

    def item(self, row: int) -> Item | None:
        return self.changed.get(row) or self.index.item(row)

    def shown(self, rows: Iterable[int], names: Iterable[str] | None) -> list[dict[str, PropertyValue]]:
        """The properties `names` (`None`: all) of each row; a property an item lacks is left out."""
        wanted = None if names is None else tuple(names)
        answer = []
        for row in rows:
            item = self.item(row)
            values = item.shown() if item else {}
            answer.append(values if wanted is None else {name: values[name] for name in wanted if name in values})
        return answer

    def allowed(self, condition: Filter | None) -> Mask | None:
        """Rows (n,) that are available and pass `condition`; `None` when every row does."""
        if condition is None:
            return ~self.hidden if self.hidden_count else None
        key = condition.key()
        mask = self._masks.get(key)
        if mask is None:
            mask = np.fromiter((passes(self.item(row), condition) for row in range(len(self.index))), np.bool_)
            mask &= ~self.hidden
            if len(self._masks) >= MAX_CACHED_FILTERS:
                self._masks.pop(next(iter(self._masks)))
            self._masks[key] = mask
        return mask


def passes(item: Item | None, condition: Filter) -> bool:
    """Whether `item` has any of the categories and all of the properties that `condition` asks for."""
    if item is None:
        return False
    if condition.categories and condition.categories.isdisjoint(item.categories or ()):
        return False
    values = item.shown()
    return all(values.get(name) == wanted for name, wanted in condition.properties.items())


def _is_hidden(item: Item | None) -> bool:
    return item is not None and item.available is False
