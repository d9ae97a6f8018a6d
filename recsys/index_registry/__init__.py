"""Seam: training and operators publish and move aliases, app and ingest read."""

from recsys.index_registry.local_copy import CacheLimit
from recsys.index_registry.protocol import IndexRegistry
from recsys.settings import RegistrySettings

__all__ = ["IndexRegistry", "open_index_registry"]


def open_index_registry(settings: RegistrySettings) -> IndexRegistry:
    """The registry that `settings.backend` names."""
    if settings.backend == "memory":
        from recsys.index_registry.memory import MemoryIndexRegistry

        return MemoryIndexRegistry()
    from recsys.index_registry.object_store import ObjectStoreRegistry

    return ObjectStoreRegistry(settings.url, CacheLimit(settings.cache_versions, settings.cache_bytes))
