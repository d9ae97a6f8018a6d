"""A population for load: items in clusters of taste, power-law popularity, users with histories."""

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TypeVar

import faiss
import msgspec
import numpy as np
import redis
from numpy.typing import NDArray
from pydantic import SecretStr

from recsys.index.artefact import IndexContents, file_entries, write_artefact
from recsys.messages.interaction import epoch_ms
from recsys.messages.item import Item
from recsys.models.kinds import ConfidenceParameters, Kind, RecommenderSection, described
from recsys.models.manifest import Manifest, Provenance
from recsys.settings import RegistrySettings, StoreSettings
from recsys.stores.model_registry import open_model_registry
from recsys.stores.model_registry.aliases import promote
from recsys.stores.online import open_stores
from recsys.users import HistoryEntry, UserFeatures
from training.recommender.index_build import build_search_index
from training.settings import IndexSettings

T = TypeVar("T")
CREATED_AT = datetime(2026, 1, 1, tzinfo=UTC)
TASTES = 50
HISTORY = 30
UNAVAILABLE = 200
"""One item in so many is out of stock."""


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

    def write_version(self, directory: Path, version: str) -> tuple[Manifest, dict[str, Path]]:
        """As an index version with titles, prices and a few items out of stock."""
        count, dimensions = self.items.shape
        built = build_search_index(self.items, self.users, IndexSettings())
        contents = IndexContents(
            item_ids=[item_id(row) for row in range(count)],
            item_factors=self.items,
            popularity=self.popularity,
            user_ids=[],
            user_factors=np.empty((0, dimensions), np.float32),
            items=[
                Item(
                    item_id=item_id(row),
                    updated_at=CREATED_AT,
                    title=f"Item {row}",
                    price=row % 90 + 0.99,
                    available=row % UNAVAILABLE != 0,
                )
                for row in range(count)
            ],
        )
        files = write_artefact(directory / version, contents, built.index)
        confidence = ConfidenceParameters(alpha=10.0, regularization=0.1, reference_ms=epoch_ms(CREATED_AT))
        section = RecommenderSection(
            algorithm="synthetic",
            dimensions=dimensions,
            items=count,
            users=0,
            log_version=-1,
            watermark=CREATED_AT,
            confidence=confidence,
            search=built.spec,
        )
        manifest = Manifest(
            version=version,
            kind=Kind.RECOMMENDER,
            created_at=CREATED_AT,
            provenance=Provenance(code_version="bench"),
            files=file_entries(files),
            section=described(section),
            parameters=built.parameters(),
        )
        return manifest, files

    def features(self, version: str, seed: int = 8) -> Iterator[UserFeatures]:
        """Each user with an embedding of `version` and a history drawn by popularity."""
        rng = np.random.default_rng(seed)
        chance = self.popularity / self.popularity.sum()
        drawn = rng.choice(len(self.items), size=(len(self.users), HISTORY), p=chance)
        at = epoch_ms(CREATED_AT)
        for row, vector in enumerate(self.users):
            history = tuple(
                HistoryEntry(at - HISTORY + position, row * HISTORY + position, item_id(item), "view")
                for position, item in enumerate(drawn[row].tolist())
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
    """The id of the item in a row of the factors."""
    return f"item-{row}"


def user_id(row: int) -> str:
    """The id of the user in a row of the factors."""
    return f"user-{row}"


def publish(data: Path, settings: Mapping[str, str], population: Population, versions: list[str]) -> int:
    """Publish the same contents under each name, the first of them live; the bytes of one version."""
    registry = open_model_registry(RegistrySettings(url=settings["MILLIREC_REGISTRY__URL"]))
    manifest, files = population.write_version(data / "built", versions[0])
    for version in versions:
        registry.publish(msgspec.structs.replace(manifest, version=version), files)
    promote(registry, versions[0], actor="bench", reason="benchmark")
    population.write_lean(data / "lean")
    return manifest.size


def fill(settings: Mapping[str, str], population: Population, progress: Callable[[int], None]) -> float:
    """Users' features for millirec, and their vectors alone for the lean service; bytes of the store per user."""
    url = settings["MILLIREC_STORE__URL"]
    with redis.Redis.from_url(url) as client:
        empty = client.info("memory")["used_memory"]
        asyncio.run(_fill(StoreSettings(url=SecretStr(url), timeout=30.0), population, progress))
        filled = client.info("memory")["used_memory"]
        for batch in batched(enumerate(population.users), 5000):
            client.mset({f"lean:{user_id(row)}": np.asarray(vector).tobytes() for row, vector in batch})
    return float(filled - empty) / len(population.users)


async def _fill(settings: StoreSettings, population: Population, progress: Callable[[int], None]) -> None:
    stores, done = open_stores(settings), 0
    try:
        for batch in batched(population.features("bench"), 2000):
            await stores.users.save(batch)
            done += len(batch)
            progress(done)
    finally:
        await stores.aclose()


def batched(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """`itertools.batched`, which Python 3.11 does not have."""
    remaining = iter(values)
    while batch := list(islice(remaining, size)):
        yield batch
