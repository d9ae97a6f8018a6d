"""Seam: ingest writes user features and items, app reads them."""

from recsys.feature_store.protocol import ITEMS_CHANNEL, PLACEMENTS_CHANNEL, VERSIONS_CHANNEL, FeatureStore, ItemChanges
from recsys.feature_store.reporter import Reporter
from recsys.settings import StoreSettings

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
        from recsys.feature_store.memory import MemoryFeatureStore

        return MemoryFeatureStore(settings)
    from recsys.feature_store.redis import RedisFeatureStore

    return RedisFeatureStore(settings)
