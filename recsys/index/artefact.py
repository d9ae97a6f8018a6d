"""The files of an index version: written by training, memory-mapped by the service and the consumers.

item_factors.npy   float32 (n, d)      items.faiss           the search index over them
item_id.*.npy      IdMap, n items      popularity.npy        float32 (n,), 1.0 for the most popular
user_factors.npy   float32 (m, d)      user_id.*.npy         IdMap, m users
items.blob.npy     uint8, JSON of each item one after the other; items.offsets.npy int64 (n+1,)
trending.npy       float32 (n,), how much more than usual an item was wanted at the watermark; 0: not
co_occurrence.*.npy  what is bought together with each item, best first: indptr int64 (n+1,), rows int32, scores
cold.npy           bool (n,), items nobody has touched, placed by what they are
content.npy        float32 (buckets, d), content to factors (recsys.index.content); (0, d) without one
attributes.*       the items as columns, for filters (recsys.index.columns)

Derived when written, so that opening a version computes nothing that grows with it:
popular_rows.npy, trending_rows.npy   int64, best first
gram.npy           float32 (d, d), YtY of the items that are not cold; inverse_norms.npy   float32 (n,)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path

import faiss
import msgspec
import numpy as np
from numpy.typing import NDArray

from recsys.errors import InvalidInput
from recsys.index.columns import write_attributes
from recsys.index.factors import Matrix, gram
from recsys.index.id_map import IdMap
from recsys.messages.item import Item, readable
from recsys.models.manifest import FileEntry


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Row i's neighbours are `rows[indptr[i]:indptr[i + 1]]` with `scores`, best first."""

    indptr: NDArray[np.int64]
    rows: NDArray[np.int32]
    scores: NDArray[np.float32]

    @classmethod
    def none(cls, n: int) -> "Neighbours":
        """Neighbours of `n` rows that have none."""
        return cls(np.zeros(n + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))

    def extended(self, count: int) -> "Neighbours":
        """These neighbours, with `count` rows at the end that have none."""
        return Neighbours(np.append(self.indptr, np.full(count, self.indptr[-1])), self.rows, self.scores)

    def of(self, row: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The neighbours of `row` (m,) and their scores (m,), best first."""
        span = slice(self.indptr[row], self.indptr[row + 1])
        return self.rows[span], self.scores[span]


@dataclass(frozen=True, slots=True)
class IndexContents:
    """Contents of a new index version. `items[i]` describes `item_ids[i]`, `None` where nothing is known.

    `popularity` (n,) is any non-negative measure of how often an item is wanted now; it is scaled to 1.
    The rest is as in the files above and may be left out.
    """

    item_ids: Sequence[str]
    item_factors: Matrix
    popularity: NDArray[np.float32]
    user_ids: Sequence[str]
    user_factors: Matrix
    items: Sequence[Item | None]
    trending: NDArray[np.float32] | None = None
    co_occurrence: Neighbours | None = None
    cold: NDArray[np.bool_] | None = None
    content: Matrix | None = None


def write_artefact(directory: Path, contents: IndexContents, search_index: faiss.Index) -> dict[str, Path]:
    """Write every file of a version into `directory`; name -> path.

    Raises `InvalidInput` on odd shapes, and for an item that could not be read again by its id.
    """
    _check(contents, search_index)
    directory.mkdir(parents=True, exist_ok=True)
    names = [
        *IdMap.build(contents.item_ids).save(directory, "item_id"),
        *IdMap.build(contents.user_ids).save(directory, "user_id"),
        *write_attributes(directory, contents.items),
    ]
    n, d = contents.item_factors.shape
    factors = np.ascontiguousarray(contents.item_factors, dtype=np.float32)
    popularity = (contents.popularity / (float(contents.popularity.max(initial=0.0)) or 1.0)).astype(np.float32)
    trending = np.zeros(n, np.float32) if contents.trending is None else contents.trending.astype(np.float32)
    co_occurrence = contents.co_occurrence or Neighbours.none(n)
    blobs = [msgspec.json.encode(item) if item is not None else b"" for item in contents.items]
    offsets = np.zeros(len(blobs) + 1, dtype=np.int64)
    np.cumsum([len(blob) for blob in blobs], out=offsets[1:])
    arrays: dict[str, NDArray[np.generic]] = {
        "item_factors.npy": factors,
        "user_factors.npy": np.ascontiguousarray(contents.user_factors, dtype=np.float32),
        "popularity.npy": popularity,
        "popular_rows.npy": np.argsort(-popularity, kind="stable"),
        "trending.npy": trending,
        "trending_rows.npy": np.argsort(-trending, kind="stable")[: np.count_nonzero(trending > 0)],
        "co_occurrence.indptr.npy": co_occurrence.indptr,
        "co_occurrence.rows.npy": co_occurrence.rows,
        "co_occurrence.scores.npy": co_occurrence.scores,
        "cold.npy": np.zeros(n, np.bool_) if contents.cold is None else contents.cold,
        "content.npy": np.empty((0, d), np.float32) if contents.content is None else contents.content,
        # Of the items that were learned from: a cold item without interactions says nothing about users.
        "gram.npy": gram(factors if contents.cold is None else factors[~contents.cold]),
        "inverse_norms.npy": (1.0 / np.maximum(np.linalg.norm(factors, axis=1), 1e-12)).astype(np.float32),
        "items.blob.npy": np.frombuffer(b"".join(blobs), dtype=np.uint8),
        "items.offsets.npy": offsets,
    }
    for name, array in arrays.items():
        np.save(directory / name, array, allow_pickle=False)
    faiss.write_index(search_index, str(directory / "items.faiss"))
    return {name: directory / name for name in (*names, *arrays, "items.faiss")}


def file_entries(files: dict[str, Path]) -> dict[str, FileEntry]:
    """Checksum and size of each file, for the manifest."""
    entries = {}
    for name, path in files.items():
        with path.open("rb") as stream:
            digest = file_digest(stream, "sha256").hexdigest()
        entries[name] = FileEntry(sha256=digest, size=path.stat().st_size)
    return entries


def without_unreadable(items: Sequence[Item | None]) -> tuple[list[Item | None], list[str]]:
    """`items`, those that could not be read again bare of all but their id and whether they are hidden; and whose."""
    bare: list[str] = []

    def written(item: Item | None) -> Item | None:
        """`item`, or a bare one of its id where it could not be read again."""
        if item is None or readable(item):
            return item
        bare.append(item.item_id)
        return Item(item_id=item.item_id, updated_at=item.updated_at, available=item.available)

    return [written(item) for item in items], bare


def _check(contents: IndexContents, search_index: faiss.Index) -> None:
    n, d = contents.item_factors.shape
    if len(contents.item_ids) != n or len(contents.items) != n or contents.popularity.shape != (n,):
        raise InvalidInput("item_factors", f"{n} rows, but as many ids, items and popularities are needed")
    for item in contents.items:
        if item is not None and not readable(item):
            raise InvalidInput(f"items.{item.item_id}", "could not be read again")
    if contents.user_factors.shape != (len(contents.user_ids), d):
        raise InvalidInput("user_factors", f"shape {contents.user_factors.shape} does not fit the users and d={d}")
    # One dimension more makes norms equal (SearchSpec.augmented).
    if search_index.ntotal != n or search_index.d not in {d, d + 1}:
        raise InvalidInput("search_index", f"holds {search_index.ntotal} x {search_index.d}, not {n} x {d}")
    if not (np.isfinite(contents.item_factors).all() and np.isfinite(contents.user_factors).all()):
        raise InvalidInput("item_factors", "some factors are not finite: the training run diverged")
