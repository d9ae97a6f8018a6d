"""NewItems: items that appeared after a version was trained, placed by what they are."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recsys.index.factors import Matrix
from recsys.index.id_map import UNKNOWN
from recsys.messages.item import Item

MAX_NEW = 10_000
"""New items a version takes in; of more, those updated last."""

PlaceItems = Callable[[Sequence[Item]], Matrix]


@dataclass(frozen=True, slots=True)
class NewItems:
    """Item `items[i]` with its vector `vectors[i]` (m, d). An item keeps its place until it falls out."""

    vectors: Matrix
    items: tuple[Item, ...] = ()
    places: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.items)

    def hidden(self) -> int:
        """How many are unavailable."""
        return sum(item.available is False for item in self.items)

    def oldest_first(self) -> NDArray[np.int64]:
        """Places by `updated_at`."""
        times = [item.updated_at.timestamp() for item in self.items]
        return np.argsort(times, kind="stable").astype(np.int64)

    def find(self, ids: Sequence[str], rows: NDArray[np.int64], start: int) -> NDArray[np.int64]:
        """`rows` of `ids` with those filled in that are unknown there and have a place here, counted from `start`."""
        if not self.places:
            return rows
        missing = np.flatnonzero(rows == UNKNOWN)
        for at in missing.tolist():
            position = self.places.get(ids[at])
            if position is not None:
                rows[at] = start + position
        return rows

    def updated(self, changed: Mapping[str, Item], place_items: PlaceItems) -> tuple["NewItems", list[int]]:
        """These items with `changed` (by id), and the positions that change; `place_items` makes vectors (k, d)."""
        items, places = list(self.items), dict(self.places)
        touched = {places[item_id] for item_id in changed if item_id in places}
        for at in touched:
            items[at] = changed[items[at].item_id]
        entering = [item for item_id, item in changed.items() if item_id not in places]
        leaving: list[int] = []
        too_many = len(items) + len(entering) - MAX_NEW
        if too_many > 0:
            oldest = sorted([*items, *entering], key=lambda item: item.updated_at)[:too_many]
            out = {item.item_id for item in oldest}
            entering = [item for item in entering if item.item_id not in out]
            leaving = [places.pop(item_id) for item_id in out if item_id in places]
        for item in entering:
            if leaving:
                items[at := leaving.pop()] = item
            else:
                at = len(items)
                items.append(item)
            places[item.item_id] = at
            touched.add(at)
        vectors = np.empty((len(items), self.vectors.shape[1]), np.float32)
        vectors[: len(self)] = self.vectors
        order = sorted(touched)
        vectors[order] = place_items([items[at] for at in order])
        return NewItems(vectors, tuple(items), places), order
