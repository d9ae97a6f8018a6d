"""Catalogue: a version's items with what changed and what appeared since, as the masks and values a request needs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.changes import Changes, passing
from recsys.catalogue.masks import Conditions, Masks
from recsys.catalogue.new_items import NewItems
from recsys.index.allowed import AllowedRows
from recsys.index.columns import HIDDEN
from recsys.index.content import place
from recsys.index.factors import Matrix
from recsys.index.id_map import UNKNOWN
from recsys.index.index import Index
from recsys.messages.item import Item, PropertyValue

Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The items of a version and new ones: rows [0, n) are those of the version, row n + i is the new item i.

    `new_rows`, the latest last, are those nobody has
    touched: the version's cold rows and all new ones, available or not. `hidden` counts the unavailable items.
    Immutable but for its bounded cache of masks; `updated` makes a new one, in which an item keeps its row unless it
    is new and fell out. Workers may see new items in different rows: between them only ids have a meaning.
    """

    index: Index
    changes: Changes
    new: NewItems
    new_rows: Rows
    hidden: int
    _masks: Masks = field(default_factory=Masks, repr=False, compare=False)

    @classmethod
    def of(cls, index: Index) -> "Catalogue":
        """The catalogue as the trainer saw it."""
        nothing_new = NewItems(np.empty((0, index.section.dimensions), np.float32))
        hidden = int(np.count_nonzero(index.attributes.state == HIDDEN))
        return cls(index, Changes(), nothing_new, np.flatnonzero(index.cold), hidden)

    def updated(self, items: Iterable[Item]) -> "Catalogue":
        """This catalogue after `items` (whole states, as the store keeps them, the last of one id counts)."""
        latest = {item.item_id: item for item in items}
        rows = self.index.item_id.rows(latest)
        changed, appeared = {}, {}
        for (item_id, item), row in zip(latest.items(), rows.tolist(), strict=True):
            if row == UNKNOWN:
                appeared[item_id] = item
            else:
                changed[row] = item
        hidden = self.hidden + sum((item.available is False) - self.is_hidden(row) for row, item in changed.items())
        new, new_rows, touched = self.new, self.new_rows, rows[rows != UNKNOWN]
        if appeared:
            n = len(self.index)
            new, places = self.new.updated(appeared, self._place)
            hidden += new.hidden() - self.new.hidden()
            cold = self.new_rows[: len(self.new_rows) - len(self.new)]
            new_rows = np.concatenate([cold, n + new.oldest_first()])
            touched = np.concatenate([touched, n + np.array(places, np.int64)])
        changes = self.changes.updated(changed) if changed else self.changes
        return Catalogue(self.index, changes, new, new_rows, hidden, self._masks.after(touched))

    def newer(self, items: Sequence[Item]) -> list[Item]:
        """The `items` that changed after training, and those that are not in the version."""
        rows = self.index.item_id.rows(item.item_id for item in items)
        times = np.fromiter((item.updated_at.timestamp() for item in items), np.float64, len(items))
        mask = (rows == UNKNOWN) | (times > self.index.attributes.updated[rows])
        return [items[at] for at in np.flatnonzero(mask).tolist()]

    def __len__(self) -> int:
        return len(self.index) + len(self.new)

    def item(self, row: int) -> Item | None:
        """The newest state of the item at `row`, `None` where nothing is known of it."""
        if row >= len(self.index):
            return self.new.items[row - len(self.index)]
        return self.changes.item(row) or self.index.item(row)

    def is_hidden(self, row: int) -> bool:
        """Return whether the item of the version is unavailable now."""
        changed = self.changes.item(row)
        return bool(self.index.attributes.state[row] == HIDDEN) if changed is None else changed.available is False

    def returned_properties(self, rows: Iterable[int], names: Iterable[str] | None) -> list[dict[str, PropertyValue]]:
        """The properties `names` (`None`: all) of each row; a property an item lacks is left out."""
        properties = None if names is None else tuple(names)
        answer = []
        for row in rows:
            item = self.item(row)
            values = item.returned_properties() if item else {}
            answer.append(
                values if properties is None else {name: values[name] for name in properties if name in values}
            )
        return answer

    def rows(self, ids: Iterable[str]) -> Rows:
        """One row per id, `UNKNOWN` (-1) where there is none."""
        ids = ids if isinstance(ids, Sequence) else list(ids)
        return self.new.find(ids, self.index.item_id.rows(ids), len(self.index))

    def ids(self, rows: Rows) -> list[str]:
        """The item id of each row."""
        n = len(self.index)
        if not len(self.new) or not (rows >= n).any():
            return self.index.item_id.ids(rows)
        version_ids = iter(self.index.item_id.ids(rows[rows < n]))
        return [next(version_ids) if row < n else self.new.items[row - n].item_id for row in rows.tolist()]

    def vectors(self, rows: Rows) -> Matrix:
        """(m, d) item factors; those of new items as the version's content model places them."""
        n = len(self.index)
        new = rows >= n
        if not new.any():
            return np.asarray(self.index.item_factors[rows])
        vectors = np.asarray(self.index.item_factors[np.where(new, 0, rows)])
        vectors[new] = self.new.vectors[rows[new] - n]
        return vectors

    def categories_of(self, rows: Rows) -> list[tuple[str, ...]]:
        """The categories of each row; reads nothing else of an item, for speed over a few hundred rows."""
        n, answer = len(self.index), []
        for row in rows.tolist():
            item = self.changes.item(row) if row < n else self.new.items[row - n]
            answer.append(self.index.categories(row) if item is None else tuple(item.categories or ()))
        return answer

    def allowed(self, conditions: Conditions) -> AllowedRows | None:
        """The rows that are available and pass every condition; `None` when all rows do, without any condition."""
        if not conditions and not self.hidden:
            return None
        cached_mask = self._masks.get(conditions)
        if cached_mask is None:
            mask = self._mask(conditions)
        elif len(cached_mask.stale):
            mask = np.zeros(len(self), np.bool_)
            mask[: len(cached_mask.allowed.mask)] = cached_mask.allowed.mask
            mask[cached_mask.stale] = passing(map(self.item, cached_mask.stale.tolist()), conditions)
        else:
            return cached_mask.allowed
        return self._masks.put(conditions, AllowedRows.of(mask))

    def has_mask(self, conditions: Conditions) -> bool:
        """Return whether `allowed` is a look-up or little more; otherwise it is work for a thread."""
        return (not conditions and not self.hidden) or self._masks.get(conditions) is not None

    def warmed(self, previous: "Catalogue") -> "Catalogue":
        """This catalogue, with the masks that `previous` had: so that no request waits for them after many changes."""
        for conditions in previous._masks.conditions():
            self.allowed(conditions)
        return self

    def _mask(self, conditions: Conditions) -> Mask:
        n = len(self.index)
        mask = np.empty(len(self), np.bool_)
        mask[:n] = self.index.attributes.allowed(conditions, self.index.item)
        self.changes.mark(mask, conditions)
        mask[n:] = passing(self.new.items, conditions)
        return mask

    def _place(self, items: Sequence[Item]) -> Matrix:
        return place(items, self.index.content)
