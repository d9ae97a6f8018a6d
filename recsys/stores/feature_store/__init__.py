"""Seam: ingest writes user features and items, app reads them."""

from recsys.settings import StoreSettings
from recsys.stores.feature_store.protocol import (
    ITEMS_CHANNEL,
    PLACEMENTS_CHANNEL,
    VERSIONS_CHANNEL,
    FeatureStore,
    ItemChanges,
)
from recsys.stores.feature_store.reporter import Reporter

__all__ = [
    "ITEMS_CHANNEL",
    "PLACEMENTS_CHANNEL",
    "VERSIONS_CHANNEL",
    "FeatureStore",
    "ItemChanges",
    "Reporter",
    "open_feature_store",
]


def open_feature_store(settings: StoreSettings) -> FeatureStore:
    """The store that `settings.backend` names; connects on first use."""
    if settings.backend == "memory":
        from recsys.stores.feature_store.memory import MemoryFeatureStore

        return MemoryFeatureStore(settings)
    from recsys.stores.feature_store.redis import RedisFeatureStore

    return RedisFeatureStore(settings)
