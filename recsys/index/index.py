"""Index: one version opened for use. Immutable; everything a request needs of it is memory-mapped."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from recsys.errors import CorruptArtefact
from recsys.index.allowed import AllowedRows
from recsys.index.artefact import Neighbours
from recsys.index.attributes import Attributes
from recsys.index.columns import HIDDEN
from recsys.index.factors import Matrix, Normal, confidences, decayed_weights, fold_in, parts
from recsys.index.id_map import UNKNOWN, IdMap, memory_mapped
from recsys.index.search import SearchIndex
from recsys.messages.item import Item, stored_item
from recsys.models.kinds import ConfidenceParameters, RecommenderSection, section_of
from recsys.models.manifest import Manifest, check_format
from recsys.observability.unreadable import VERSION_ITEM, note_unreadable
from recsys.users import HistoryEntry, Vector


class _Categories(msgspec.Struct):
    """The categories of an item, read without its other fields."""

    categories: tuple[str, ...] | None = None


_categories_decoder = msgspec.json.Decoder(_Categories)


@dataclass(frozen=True, slots=True)
class Index:
    """Item factors (n, d), user snapshot (m, d), popularity (n,) with its order, ids and items of one version."""

    manifest: Manifest
    section: RecommenderSection
    item_id: IdMap
    item_factors: Matrix
    user_id: IdMap
    user_factors: Matrix
    popularity: NDArray[np.float32]
    popular_rows: NDArray[np.int64]
    trending: NDArray[np.float32]
    trending_rows: NDArray[np.int64]
    co_occurrence: Neighbours
    cold: NDArray[np.bool_]
    content: Matrix
    attributes: Attributes
    item_blob: NDArray[np.uint8]
    item_offsets: NDArray[np.int64]
    search_index: SearchIndex
    parameters: ConfidenceParameters
    gram: Matrix = field(repr=False)
    normal: Normal = field(repr=False)
    inverse_norms: NDArray[np.float32] = field(repr=False)

    @classmethod
    def open(cls, directory: Path, manifest: Manifest) -> "Index":
        """Memory-map a version whose checksums were verified. Raises `CorruptArtefact`."""
        check_format(manifest.version, manifest.format_version)
        try:
            return cls._open(directory, manifest, section_of(manifest, RecommenderSection))
        except CorruptArtefact:
            raise
        except Exception as error:
            # Files may hold anything, and each kind of nonsense ends in an error of its own.
            raise CorruptArtefact(f"version {manifest.version} cannot be opened: {error}") from error

    @classmethod
    def _open(cls, directory: Path, manifest: Manifest, section: RecommenderSection) -> "Index":
        def array(name: str) -> Any:
            """The memory-mapped array in `{name}.npy`."""
            return memory_mapped(directory / f"{name}.npy")

        item_id = IdMap.open(directory, "item_id")
        gram = array("gram")
        index = cls(
            manifest=manifest,
            section=section,
            item_id=item_id,
            item_factors=array("item_factors"),
            user_id=IdMap.open(directory, "user_id"),
            user_factors=array("user_factors"),
            popularity=array("popularity"),
            popular_rows=array("popular_rows"),
            trending=array("trending"),
            trending_rows=array("trending_rows"),
            co_occurrence=Neighbours(
                array("co_occurrence.indptr"), array("co_occurrence.rows"), array("co_occurrence.scores")
            ),
            cold=array("cold"),
            content=array("content"),
            attributes=Attributes.open(directory, item_id),
            item_blob=array("items.blob"),
            item_offsets=array("items.offsets"),
            search_index=SearchIndex.open(
                directory / "items.faiss",
                array("item_factors"),
                section.search,
            ),
            parameters=section.confidence,
            gram=gram,
            normal=Normal.of(gram, section.confidence.regularization),
            inverse_norms=array("inverse_norms"),
        )
        index._check()
        return index

    def _check(self) -> None:
        shape = (self.section.items, self.section.dimensions)
        per_item = (self.item_id, self.popularity, self.popular_rows, self.trending, self.cold, self.inverse_norms)
        sizes = {len(self.item_offsets) - 1, len(self.co_occurrence.indptr) - 1, self.search_index.index.ntotal}
        sizes |= {len(column) for column in per_item}
        if self.item_factors.shape != shape or sizes != {shape[0]} or self.search_index.dimensions != shape[1]:
            raise CorruptArtefact(f"version {self.version}: arrays do not have the manifest's shape {shape}")
        if self.user_factors.shape != (len(self.user_id), shape[1]):
            raise CorruptArtefact(f"version {self.version}: the user snapshot has shape {self.user_factors.shape}")

    @property
    def version(self) -> str:
        """The version's id."""
        return self.manifest.version

    def __len__(self) -> int:
        return len(self.item_id)

    def item(self, row: int) -> Item | None:
        """The item at `row` as of training; of one that cannot be read, only its id and whether it is hidden."""
        raw = self.item_blob[self.item_offsets[row] : self.item_offsets[row + 1]].tobytes()
        try:
            return stored_item(raw) if raw else None
        except ValueError as error:
            return self._unreadable(row, error)

    def categories(self, row: int) -> tuple[str, ...]:
        """The item's categories as the trainer knew them, at a quarter of the cost of `item`."""
        raw = self.item_blob[self.item_offsets[row] : self.item_offsets[row + 1]].tobytes()
        try:
            return _categories_decoder.decode(raw).categories or () if raw else ()
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            self._unreadable(row, error)
            return ()

    def _unreadable(self, row: int, error: Exception) -> Item:
        (item_id,) = self.item_id.ids(np.array([row]))
        note_unreadable(VERSION_ITEM, item_id, error)
        available = None if self.attributes.state[row] != HIDDEN else False
        return Item(item_id=item_id, updated_at=self.section.watermark, available=available)

    def snapshot(self, user_id: str) -> Vector | None:
        """The user's vector (d,) as of training, or `None` for a user who was not there."""
        row = self.user_id.row(user_id)
        return None if row == UNKNOWN else np.asarray(self.user_factors[row])

    def fold_in_many(self, histories: Sequence[Sequence[HistoryEntry]]) -> list[Vector | None]:
        """One vector (d,) per history in one batched solve; `None` where no item of it is known here."""
        vectors: list[Vector | None] = [None] * len(histories)
        entries = [entry for history in histories for entry in history]
        users = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
        rows = self.item_id.rows(entry.item_id for entry in entries)
        # One key for user and item, so that the whole batch is summed at once.
        keys = np.where(rows >= 0, users * len(self) + rows, UNKNOWN)
        distinct, confidence = confidences(keys, decayed_weights(entries, self.parameters), self.parameters.alpha)
        sizes = np.bincount(distinct // len(self), minlength=len(histories))
        (places,) = np.nonzero(sizes)
        if len(places):
            solved = fold_in(self.normal, self.item_factors, distinct % len(self), confidence, sizes[places])
            for position, vector in zip(places.tolist(), solved, strict=True):
                vectors[position] = vector
        return vectors

    def fold_in(self, history: Sequence[HistoryEntry]) -> Vector | None:
        """The vector (d,) of one history, `None` where no item of it is known here."""
        return self.fold_in_many((history,))[0]

    def parts(self, history: Sequence[HistoryEntry]) -> tuple[list[str], Matrix] | None:
        """The history's distinct known items and each one's part (m, d) of the vector that `fold_in` gives."""
        rows = self.item_id.rows(entry.item_id for entry in history)
        if not (rows >= 0).any():
            return None
        distinct, confidence = confidences(rows, decayed_weights(history, self.parameters), self.parameters.alpha)
        liked = np.asarray(self.item_factors[distinct])
        return self.item_id.ids(distinct), parts(self.gram, liked, confidence, self.parameters.regularization)

    def search(
        self, vectors: Matrix, k: int, allowed: AllowedRows | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Rows (q, k), -1 for none, and scores of the largest inner products with each of `vectors` (q, d)."""
        return self.search_index.search(vectors, min(k, len(self)), allowed)
