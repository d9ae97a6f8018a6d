"""The model registry inside one process, for tests and experiments; nothing outlives it."""

from recsys.clients.objects import Objects
from recsys.models.manifest import RECOMMENDER
from recsys.stores.model_registry.object_store import ObjectStoreModelRegistry
from recsys.stores.model_registry.protocol import Proof


class MemoryModelRegistry(ObjectStoreModelRegistry):
    """A `ModelRegistry` on an object store in memory."""

    def __init__(self, proof: Proof | None = None, model: str = RECOMMENDER) -> None:
        super().__init__(Objects("memory:"), model, proof=proof)
