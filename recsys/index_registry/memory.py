"""The index registry in memory, for tests: the same code on another object store."""

from obstore.store import MemoryStore

from recsys.index_registry.object_store import ObjectStoreRegistry


class MemoryIndexRegistry(ObjectStoreRegistry):
    def __init__(self) -> None:
        super().__init__("memory://", MemoryStore())
