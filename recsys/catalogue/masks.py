"""Masks: what filters allow, kept between requests and between changes of the catalogue."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from recsys.filters.expression import Expression
from recsys.index.allowed import AllowedRows

MAX_MASKS = 256
MAX_BYTES = 64 * 1024 * 1024
BYTES_PER_ROW = 2
"""A mask with its bitmap."""
MAX_STALE = 1000
"""Rows to look at again after which a mask is better made anew."""

Conditions = tuple[Expression, ...]
Rows = NDArray[np.int64]

_NO_ROWS = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class CachedMask:
    """The rows that its conditions allowed before the `stale` rows changed."""

    allowed: AllowedRows
    stale: Rows


class Masks:
    """A cache of the masks used last, by conditions; bounded in number and bytes, and safe for threads."""

    def __init__(self, cached: Mapping[Conditions, CachedMask] | None = None) -> None:
        self._cached: OrderedDict[Conditions, CachedMask] = OrderedDict(cached or {})
        self._lock = Lock()

    def get(self, conditions: Conditions) -> CachedMask | None:
        """The mask of `conditions`, `None` where it is not cached; counts as a use."""
        with self._lock:
            entry = self._cached.get(conditions)
            if entry is not None:
                self._cached.move_to_end(conditions)
            return entry

    def put(self, conditions: Conditions, allowed: AllowedRows) -> AllowedRows:
        """Cache `allowed` for `conditions`, drop the masks unused longest, and return it."""
        limit = min(MAX_MASKS, max(1, MAX_BYTES // (BYTES_PER_ROW * max(1, len(allowed.mask)))))
        with self._lock:
            self._cached[conditions] = CachedMask(allowed, _NO_ROWS)
            self._cached.move_to_end(conditions)
            while len(self._cached) > limit:
                self._cached.popitem(last=False)
        return allowed

    def conditions(self) -> list[Conditions]:
        """The conditions of every cached mask, the one used last at the end."""
        with self._lock:
            return list(self._cached)

    def after(self, rows: Rows) -> "Masks":
        """These masks with `rows` marked as stale; without those that have too many stale rows."""
        with self._lock:
            entries = dict(self._cached)
        # Masks made at the same time share what is stale in them.
        merged: dict[int, Rows] = {}
        for entry in entries.values():
            if id(entry.stale) not in merged:
                merged[id(entry.stale)] = np.union1d(entry.stale, rows)
        stale = {conditions: merged[id(entry.stale)] for conditions, entry in entries.items()}
        return Masks(
            {
                conditions: CachedMask(entry.allowed, stale[conditions])
                for conditions, entry in entries.items()
                if len(stale[conditions]) <= MAX_STALE
            }
        )
