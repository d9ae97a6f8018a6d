"""A small index version with two tastes, for tests of whatever serves versions."""

from datetime import UTC, datetime
from pathlib import Path

import faiss
import numpy as np

from recsys.index.artefact import IndexContents, file_entries, write_artefact
from recsys.messages.interaction import epoch_ms
from recsys.messages.item import Item
from recsys.models.kinds import ConfidenceParameters, Kind, RecommenderSection, described
from recsys.models.manifest import Manifest, Provenance
from recsys.stores.model_registry import ModelRegistry
from training.recommender.cold_start import learn
from training.settings import ColdStartSettings

WATERMARK = datetime(2011, 12, 9, tzinfo=UTC)
ITEMS = 40
USERS = 20
DIMENSIONS = 8


def publish_small_version(registry: ModelRegistry, directory: Path, version: str, seed: int = 0) -> Manifest:
    """Items `i0`..`i39`, even ones of category `tea`, odd ones `garden`; users `u0`..`u19`, even ones like tea.

    `i7` is unavailable. Categories tell the taste. `seed` turns the factor space, so that vectors of one version
    mean nothing in another.
    """
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(DIMENSIONS, DIMENSIONS)))[0]
    tastes = np.zeros((2, DIMENSIONS))
    tastes[0, 0] = tastes[1, 1] = 1.0
    items = tastes[np.arange(ITEMS) % 2] + 0.03 * rng.normal(size=(ITEMS, DIMENSIONS))
    users = tastes[np.arange(USERS) % 2] + 0.03 * rng.normal(size=(USERS, DIMENSIONS))
    factors = (items @ turn).astype(np.float32)
    search_index = faiss.IndexFlatIP(DIMENSIONS)
    search_index.add(factors)
    contents = IndexContents(
        item_ids=[f"i{n}" for n in range(ITEMS)],
        item_factors=factors,
        popularity=np.arange(ITEMS, 0, -1, dtype=np.float32),
        user_ids=[f"u{n}" for n in range(USERS)],
        user_factors=(users @ turn).astype(np.float32),
        items=[small_item(n) for n in range(ITEMS)],
        content=learn(
            [small_item(n) for n in range(ITEMS)], factors, np.ones(ITEMS), ColdStartSettings(min_items=10)
        ).projection,
    )
    files = write_artefact(directory / version, contents, search_index)
    confidence = ConfidenceParameters(alpha=10.0, regularization=0.1, reference_ms=epoch_ms(WATERMARK))
    section = RecommenderSection(
        algorithm="als",
        dimensions=DIMENSIONS,
        items=ITEMS,
        users=USERS,
        log_version=0,
        watermark=WATERMARK,
        confidence=confidence,
    )
    manifest = Manifest(
        version=version,
        kind=Kind.RECOMMENDER,
        created_at=WATERMARK,
        provenance=Provenance(code_version="test"),
        files=file_entries(files),
        section=described(section),
        metrics={"recall@20": 0.5},
    )
    registry.publish(manifest, files)
    return manifest


def small_item(n: int) -> Item:
    return Item(
        item_id=f"i{n}",
        updated_at=WATERMARK,
        title=f"Item {n}",
        price=float(n),
        categories=["garden" if n % 2 else "tea"],
        available=n != 7,
        properties={"colour": "red" if n < 10 else "blue"},
    )
