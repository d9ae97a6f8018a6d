"""Which interactions the log holds already, in eight bytes each."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.interaction import event_key
from recsys.interaction_log import InteractionLog

Keys = NDArray[np.int64]
Mask = NDArray[np.bool_]


def keys_of(rows: pl.DataFrame) -> Keys:
    """One 64-bit key per row from its user and event id: event ids are unique per user, as in the feature store."""
    pairs = zip(rows.get_column("user_id"), rows.get_column("event_id"), strict=True)
    return np.fromiter((event_key(f"{user}\x1f{event}") for user, event in pairs), np.int64, rows.height)


@dataclass(slots=True)
class KeySet:
    """A sorted array of keys: 8 MB a million."""

    keys: Keys = field(default_factory=lambda: np.empty(0, np.int64))

    def add(self, keys: Keys) -> None:
        # Two sorted runs: timsort merges them in linear time.
        self.keys = np.sort(np.concatenate([self.keys, np.unique(keys)]), kind="stable")

    def contains(self, keys: Keys) -> Mask:
        if not len(self.keys):
            return np.zeros(len(keys), bool)
        places = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        found: Mask = self.keys[places] == keys
        return found


class SeenEvents:
    """Tells new interactions of `partition` from repeats in it and from what other partitions brought.

    Only the dates that turn up are read from the log, each once. Two different events share a key with
    a probability of n²/2⁶⁵ (3·10⁻⁸ for a million).
    """

    def __init__(self, log: InteractionLog, partition: str) -> None:
        self._log = log
        self._partition = partition
        self._dates: set[date] = set()
        self._elsewhere = KeySet()
        self._here = KeySet()
        if log.watermark(partition) >= 0:
            self._here.add(keys_of(self._read(log.read().filter(pl.col("partition") == partition))))

    def sort_out(self, rows: pl.DataFrame) -> tuple[Mask, Mask]:
        """(new, known from elsewhere) per row; what is neither repeats an earlier row of this partition.

        What is new counts as seen from now on.
        """
        self._look_up(rows.get_column("occurred_at").dt.date().unique().to_list())
        keys = keys_of(rows)
        known = self._elsewhere.contains(keys)
        firsts = np.zeros(len(keys), bool)
        firsts[np.unique(keys, return_index=True)[1]] = True
        new = firsts & ~known & ~self._here.contains(keys)
        self._here.add(keys[new])
        return new, known

    def _look_up(self, dates: Sequence[date]) -> None:
        unread = [date for date in dates if date not in self._dates]
        if unread:
            self._dates.update(unread)
            there = self._log.read(dates=unread).filter(pl.col("partition") != self._partition)
            self._elsewhere.add(keys_of(self._read(there)))

    @staticmethod
    def _read(rows: pl.LazyFrame) -> pl.DataFrame:
        return rows.select("user_id", "event_id").collect()
