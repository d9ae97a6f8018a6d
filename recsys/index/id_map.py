"""IdMap: string ids <-> row numbers, as memory-mapped arrays that any number of processes share.

A million ids cost a worker no Python objects: one UTF-8 blob with offsets answers row -> id, and sorted
64-bit hashes answer id -> row. `build` refuses ids whose hashes collide, so a known id is always found
right; an unknown id is mistaken for a known one with a chance of n / 2**64 (5e-14 for a million ids).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from recsys.errors import CorruptArtefact, InvalidInput

UNKNOWN = -1
REMEMBERED = 20_000
"""Ids whose rows are kept at hand, because a few items are in most histories: 2 MB of short ones."""


def memory_mapped(path: Path) -> Any:
    """The array in `path`, shared between processes; a plain ndarray, because indexing a memmap runs a Python hook."""
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


@dataclass(frozen=True, slots=True)
class IdMap:
    """Ids by row: `blob` uint8 (bytes,), `offsets` int64 (n+1,), `hashes` uint64 (n,) sorted, `order` int32 (n,)."""

    blob: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    order: NDArray[np.int32]
    _at_hand: dict[str, int] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def build(cls, ids: Sequence[str]) -> "IdMap":
        """Rows in the order of `ids`. Raises `InvalidInput` on a repeated id (or a hash collision)."""
        encoded = [item_id.encode() for item_id in ids]
        offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
        np.cumsum([len(raw_id) for raw_id in encoded], out=offsets[1:])
        hashes = np.fromiter((xxhash.xxh3_64_intdigest(raw_id) for raw_id in encoded), np.uint64, len(encoded))
        order = np.argsort(hashes, kind="stable").astype(np.int32)
        hashes = hashes[order]
        twice = np.flatnonzero(hashes[1:] == hashes[:-1])
        if len(twice):
            first, second = ids[order[twice[0]]], ids[order[twice[0] + 1]]
            raise InvalidInput("ids", f"{first!r} and {second!r} are the same id or share a hash")
        return cls(np.frombuffer(b"".join(encoded), dtype=np.uint8), offsets, hashes, order)

    @classmethod
    def open(cls, directory: Path, name: str) -> "IdMap":
        """Memory-map what `save` wrote. Raises `CorruptArtefact`."""
        blob, offsets, hashes, order = (
            memory_mapped(directory / f"{name}.{part}.npy") for part in ("blob", "offsets", "hashes", "order")
        )
        n = len(order)
        if len(offsets) != n + 1 or len(hashes) != n or (n and offsets[-1] != len(blob)):
            raise CorruptArtefact(f"id map {name!r}: its four arrays do not belong together")
        return cls(blob, offsets, hashes, order)

    def save(self, directory: Path, name: str) -> list[str]:
        """Write four `.npy` files and return their names."""
        parts: dict[str, NDArray[np.generic]] = {
            "blob": self.blob,
            "offsets": self.offsets,
            "hashes": self.hashes,
            "order": self.order,
        }
        for part, array in parts.items():
            np.save(directory / f"{name}.{part}.npy", array, allow_pickle=False)
        return [f"{name}.{part}.npy" for part in parts]

    def __len__(self) -> int:
        return len(self.order)

    def rows(self, ids: Iterable[str]) -> NDArray[np.int64]:
        """One row per id, `UNKNOWN` (-1) where the id is not in the map."""
        ids = ids if isinstance(ids, Sequence) else list(ids)
        if len(ids) > REMEMBERED:
            return self._look_up(ids)
        at_hand = self._at_hand
        rows = [at_hand.get(identifier) for identifier in ids]
        if None in rows:
            places = [position for position, row in enumerate(rows) if row is None]
            looked_up = self._look_up([ids[position] for position in places]).tolist()
            if len(at_hand) + len(places) > REMEMBERED:
                at_hand.clear()
            for position, row in zip(places, looked_up, strict=True):
                rows[position] = row
                if row != UNKNOWN:
                    at_hand[ids[position]] = row
        return np.array(rows, dtype=np.int64)

    def _look_up(self, ids: Sequence[str]) -> NDArray[np.int64]:
        digest = xxhash.xxh3_64_intdigest
        digests = np.array([digest(identifier.encode()) for identifier in ids], dtype=np.uint64)
        if not len(self.order):
            return np.full(len(digests), UNKNOWN, dtype=np.int64)
        places = np.minimum(np.searchsorted(self.hashes, digests), len(self.hashes) - 1)
        rows: NDArray[np.int64] = np.where(self.hashes[places] == digests, self.order[places], UNKNOWN).astype(np.int64)
        return rows

    def row(self, identifier: str) -> int:
        """The row of one id, or `UNKNOWN`."""
        return int(self.rows((identifier,))[0])

    def ids(self, rows: NDArray[np.int64]) -> list[str]:
        """The id of each row; every row has to exist."""
        starts, ends = self.offsets[rows].tolist(), self.offsets[rows + 1].tolist()
        # A slice of an array costs twice as much as one of its memory.
        blob = self.blob.data
        return [str(blob[start:end], "utf-8") for start, end in zip(starts, ends, strict=True)]
