"""Which interactions the log holds already, in eight bytes each."""

from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.stores.event_log import InteractionLog

Keys = NDArray[np.int64]
Mask = NDArray[np.bool_]
KEY = pl.concat_str("user_id", "event_id", separator="\x1f").hash().reinterpret(signed=True)
"""Good within a process only: another release of polars may hash otherwise."""


def keys_of(rows: pl.DataFrame) -> Keys:
    """Return one 64-bit key per row from user and event id: event ids are unique per user, as in the feature store."""
    return rows.select(key=KEY).get_column("key").to_numpy()


@dataclass(slots=True)
class KeySet:
    """A sorted array of keys: 8 MB a million."""

    keys: Keys = field(default_factory=lambda: np.empty(0, np.int64))

    def add(self, keys: Keys) -> None:
        """Add `keys` to the set."""
        # Two sorted runs: timsort merges them in linear time.
        self.keys = np.sort(np.concatenate([self.keys, np.unique(keys)]), kind="stable")

    def contains(self, keys: Keys) -> Mask:
        """Return, for each of `keys`, whether the set holds it."""
        if not len(self.keys):
            return np.zeros(len(keys), bool)
        places = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        mask: Mask = self.keys[places] == keys
        return mask


class SeenEvents:
    """Separates new interactions of `partition` from repeats in it and from interactions of other partitions.

    Every event of the log is read once, on construction, whatever its time. Two different events
    share a key with a probability of n²/2⁶⁵ (3·10⁻⁸ for a million).
    """

    def __init__(self, log: InteractionLog, partition: str) -> None:
        mine = pl.col("partition") == partition
        keys = log.events().select(mine.alias("mine"), KEY.alias("key")).collect(engine="streaming")
        self._own, self._foreign = KeySet(), KeySet()
        for key_set, chosen in ((self._own, pl.col("mine")), (self._foreign, ~pl.col("mine"))):
            key_set.add(keys.filter(chosen).get_column("key").to_numpy())

    def sort_out(self, rows: pl.DataFrame) -> tuple[Mask, Mask]:
        """Return masks (new, in another partition) per row; other rows repeat an earlier row of this partition.

        New rows count as seen in later calls.
        """
        keys = keys_of(rows)
        in_log = self._foreign.contains(keys)
        firsts = np.zeros(len(keys), bool)
        firsts[np.unique(keys, return_index=True)[1]] = True
        new = firsts & ~in_log & ~self._own.contains(keys)
        self._own.add(keys[new])
        return new, in_log
