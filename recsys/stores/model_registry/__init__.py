"""Seam: training and operators publish and move aliases, app and ingest read."""

from recsys.models.manifest import RECOMMENDER
from recsys.settings import RegistrySettings
from recsys.stores.model_registry.local_copy import CacheLimit
from recsys.stores.model_registry.protocol import ModelRegistry, Proof

__all__ = ["ModelRegistry", "Proof", "open_model_registry"]


def open_model_registry(
    settings: RegistrySettings, model: str = RECOMMENDER, *, proof: Proof | None = None
) -> ModelRegistry:
    """The versions and aliases of `model` in the registry that `settings.backend` names.

    Who moves aliases passes a `proof`, which a version has to pass first: `recsys.opening` has it. Raises
    `InvalidInput` for what is no name of a model.
    """
    if settings.backend == "memory":
        from recsys.stores.model_registry.memory import MemoryModelRegistry

        return MemoryModelRegistry(proof, model)
    from recsys.clients.objects import Objects
    from recsys.stores.model_registry.object_store import ObjectStoreModelRegistry

    limit = CacheLimit(settings.cache_versions, settings.cache_bytes)
    return ObjectStoreModelRegistry(Objects(settings.url), model, limit=limit, proof=proof)
