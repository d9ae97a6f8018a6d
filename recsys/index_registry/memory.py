"""The index registry inside one process, for tests and experiments; nothing outlives it."""

from recsys.index_registry.object_store import ObjectStoreRegistry


class MemoryIndexRegistry(ObjectStoreRegistry):
    """The same on an object store in memory."""

    def __init__(self) -> None:
        super().__init__("memory:")
