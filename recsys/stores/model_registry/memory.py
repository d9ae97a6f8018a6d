"""The model registry inside one process, for tests and experiments; nothing outlives it."""

from recsys.stores.model_registry.local_copy import DEFAULT_LIMIT
from recsys.stores.model_registry.object_store import ObjectStoreModelRegistry
from recsys.stores.model_registry.protocol import Proof


class MemoryModelRegistry(ObjectStoreModelRegistry):
    """An `ModelRegistry` on an object store in memory."""

    def __init__(self, proof: Proof | None = None) -> None:
        super().__init__("memory:", DEFAULT_LIMIT, proof)
