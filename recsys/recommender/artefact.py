"""The files of an index version: written by training, memory-mapped by whoever serves it.

item_factors.npy   float32 (n, d)      items.faiss           the search index over them
item_id.*.npy      IdMap, n items      popularity.npy        float32 (n,), 1.0 for the most popular
user_factors.npy   float32 (m, d)      user_id.*.npy         IdMap, m users
items.blob.npy     uint8, JSON of each item one after the other; items.offsets.npy int64 (n+1,)
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
from recsys.index_version import FileEntry
from recsys.item import Item
from recsys.recommender.factors import Matrix
from recsys.recommender.id_map import IdMap


@dataclass(frozen=True, slots=True)
class IndexContents:
    """What a training run hands over. `items[i]` describes `item_ids[i]`, `None` where nothing is known.

    `popularity` (n,) is any non-negative measure of how often an item is wanted now; it is scaled to 1.
    """

    item_ids: Sequence[str]
    item_factors: Matrix
    popularity: NDArray[np.float32]
    user_ids: Sequence[str]
    user_factors: Matrix
    items: Sequence[Item | None]


def write_artefact(directory: Path, contents: IndexContents, search_index: faiss.Index) -> dict[str, Path]:
    """Write every file of a version into `directory`; name -> path. Raises `InvalidInput` on odd shapes."""
    _check(contents, search_index)
    directory.mkdir(parents=True, exist_ok=True)
    names = [
        *IdMap.build(contents.item_ids).save(directory, "item_id"),
        *IdMap.build(contents.user_ids).save(directory, "user_id"),
    ]
    top = float(contents.popularity.max(initial=0.0)) or 1.0
    blobs = [msgspec.json.encode(item) if item is not None else b"" for item in contents.items]
    offsets = np.zeros(len(blobs) + 1, dtype=np.int64)
    np.cumsum([len(blob) for blob in blobs], out=offsets[1:])
    arrays: dict[str, NDArray[np.generic]] = {
        "item_factors.npy": np.ascontiguousarray(contents.item_factors, dtype=np.float32),
        "user_factors.npy": np.ascontiguousarray(contents.user_factors, dtype=np.float32),
        "popularity.npy": (contents.popularity / top).astype(np.float32),
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


def _check(contents: IndexContents, search_index: faiss.Index) -> None:
    n, d = contents.item_factors.shape
    if len(contents.item_ids) != n or len(contents.items) != n or contents.popularity.shape != (n,):
        raise InvalidInput("item_factors", f"{n} rows, but as many ids, items and popularities are needed")
    if contents.user_factors.shape != (len(contents.user_ids), d):
        raise InvalidInput("user_factors", f"shape {contents.user_factors.shape} does not fit the users and d={d}")
    if search_index.ntotal != n or search_index.d != d:
        raise InvalidInput("search_index", f"holds {search_index.ntotal} x {search_index.d}, not {n} x {d}")
    if not (np.isfinite(contents.item_factors).all() and np.isfinite(contents.user_factors).all()):
        raise InvalidInput("item_factors", "some factors are not finite: the training run diverged")
