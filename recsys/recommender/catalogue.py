"""Catalogue: a version's items with what changed since, as the masks and values a request needs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recsys.expression import Expression
from recsys.item import Item, PropertyValue
from recsys.recommender.allowed import Allowed
from recsys.recommender.factors import Matrix
from recsys.recommender.id_map import UNKNOWN
from recsys.recommender.index import Index

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
    _masks: dict[object, Allowed] = field(default_factory=dict, repr=False, compare=False)

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

    def __len__(self) -> int:
        return len(self.index)

    def rows(self, ids: Iterable[str]) -> NDArray[np.int64]:
        return self.index.item_id.rows(ids)

    def ids(self, rows: NDArray[np.int64]) -> list[str]:
        return self.index.item_id.ids(rows)

    def vectors(self, rows: NDArray[np.int64]) -> Matrix:
        return np.asarray(self.index.item_factors[rows])

    @property
    def new_rows(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.index.cold)

    def categories_of(self, rows: NDArray[np.int64]) -> list[tuple[str, ...]]:
        items = [self.item(row) for row in rows.tolist()]
        return [tuple(item.categories or ()) if item else () for item in items]

    def allowed(self, conditions: tuple[Expression, ...]) -> Allowed | None:
        """Rows that are available and pass every condition; `None` when every row does."""
        if not conditions and not self.hidden_count:
            return None
        found = self._masks.get(conditions)
        if found is None:
            mask = ~self.hidden
            for condition in conditions:
                mask &= np.fromiter((condition.matches(self.item(row)) for row in range(len(self.index))), np.bool_)
            found = self._masks[conditions] = Allowed(mask)
        return found


def _is_hidden(item: Item | None) -> bool:
    return item is not None and item.available is False
