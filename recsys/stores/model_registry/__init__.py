"""Seam: training and operators publish and move aliases, app and ingest read."""

from recsys.settings import RegistrySettings
from recsys.stores.model_registry.local_copy import CacheLimit
from recsys.stores.model_registry.protocol import ModelRegistry, Proof

__all__ = ["ModelRegistry", "Proof", "open_model_registry"]


def open_model_registry(settings: RegistrySettings, proof: Proof | None = None) -> ModelRegistry:
    """The registry that `settings.backend` names.

    Who moves aliases passes a `proof`, which a version has to pass first: `recsys.opening` has it.
    """
    if settings.backend == "memory":
        from recsys.stores.model_registry.memory import MemoryModelRegistry

        return MemoryModelRegistry(proof)
    from recsys.stores.model_registry.object_store import ObjectStoreModelRegistry

    return ObjectStoreModelRegistry(settings.url, CacheLimit(settings.cache_versions, settings.cache_bytes), proof)
