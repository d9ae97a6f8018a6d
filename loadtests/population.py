"""A population for load: items in clusters of taste, power-law popularity, users with histories."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import faiss
import msgspec
import numpy as np
from numpy.typing import NDArray

from recsys.index_registry import IndexRegistry
from recsys.index_version import Manifest
from recsys.interaction import epoch_ms
from recsys.item import Item
from recsys.recommender import ConfidenceParameters, IndexContents, file_entries, write_artefact
from recsys.user_features import HistoryEntry, UserFeatures
from training.index_build import build_search_index
from training.settings import IndexSettings

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TASTES = 50
HISTORY = 30


@dataclass(frozen=True, slots=True)
class Population:
    """`items` (n, d) and `users` (m, d) factors; `popularity` (n,) falls off as a power law."""

    items: NDArray[np.float32]
    users: NDArray[np.float32]
    popularity: NDArray[np.float32]

    @classmethod
    def generate(cls, items: int, users: int, dimensions: int, seed: int = 7) -> "Population":
        """Factors scatter around shared tastes, and popular items have larger norms, as ALS makes them."""
        rng = np.random.default_rng(seed)
        tastes = rng.normal(size=(TASTES, dimensions)).astype(np.float32)
        popularity = (1.0 / np.arange(1, items + 1) ** 0.8).astype(np.float32)
        rng.shuffle(popularity)
        norms = (0.3 + popularity / popularity.max()) ** 0.3
        item_factors = tastes[rng.integers(TASTES, size=items)] + 0.7 * rng.normal(size=(items, dimensions))
        user_factors = tastes[rng.integers(TASTES, size=users)] + 0.7 * rng.normal(size=(users, dimensions))
        scaled = item_factors * norms[:, None] / np.sqrt(dimensions)
        return cls(scaled.astype(np.float32), (user_factors / np.sqrt(dimensions)).astype(np.float32), popularity)

    def publish(self, registry: IndexRegistry, directory: Path, version: str) -> Manifest:
        """As an index version with titles and prices, published to `registry`."""
        count, dimensions = self.items.shape
        built = build_search_index(self.items, self.users, IndexSettings())
        contents = IndexContents(
            item_ids=[item_id(row) for row in range(count)],
            item_factors=self.items,
            popularity=self.popularity,
            user_ids=[],
            user_factors=np.empty((0, dimensions), np.float32),
            items=[
                Item(item_id=item_id(row), updated_at=NOW, title=f"Item {row}", price=row % 90 + 0.99)
                for row in range(count)
            ],
        )
        files = write_artefact(directory / version, contents, built.index)
        confidence = ConfidenceParameters(alpha=10.0, regularization=0.1, reference_ms=epoch_ms(NOW))
        manifest = Manifest(
            version=version,
            created_at=NOW,
            algorithm="synthetic",
            dimensions=dimensions,
            items=count,
            users=0,
            log_version=-1,
            watermark=NOW,
            code_version="bench",
            files=file_entries(files),
            parameters={"confidence": msgspec.to_builtins(confidence), **built.parameters()},
            metrics={},
        )
        registry.publish(manifest, files)
        return manifest

    def features(self, version: str, seed: int = 8) -> Iterator[UserFeatures]:
        """Each user with an embedding of `version` and a history drawn by popularity."""
        rng = np.random.default_rng(seed)
        chance = self.popularity / self.popularity.sum()
        drawn = rng.choice(len(self.items), size=(len(self.users), HISTORY), p=chance)
        at = epoch_ms(NOW)
        for row, vector in enumerate(self.users):
            history = tuple(
                HistoryEntry(at - HISTORY + place, row * HISTORY + place, item_id(item), "view")
                for place, item in enumerate(drawn[row].tolist())
            )
            yield UserFeatures(user_id(row), history, {}, {version: vector})

    def write_lean(self, directory: Path) -> None:
        """The same factors in the files the lean baseline reads."""
        search_index = faiss.IndexFlatIP(self.items.shape[1])
        search_index.add(self.items)
        directory.mkdir(parents=True, exist_ok=True)
        faiss.write_index(search_index, str(directory / "items.faiss"))
        (directory / "item_ids.json").write_text(json.dumps([item_id(row) for row in range(len(self.items))]))


def item_id(row: int) -> str:
    return f"item-{row}"


def user_id(row: int) -> str:
    return f"user-{row}"
