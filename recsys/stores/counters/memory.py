"""The store of counters inside one process, for tests and experiments; nothing outlives it."""

from collections import Counter
from collections.abc import Mapping


class MemoryCounterStore:
    """A `CounterStore` in dictionaries."""

    def __init__(self) -> None:
        self._counters: dict[str, Counter[str]] = {}

    async def increment(self, name: str, counts: Mapping[str, int]) -> None:
        """See `CounterStore.increment`."""
        self._counters.setdefault(name, Counter()).update(counts)

    async def read(self, name: str) -> dict[str, int]:
        """See `CounterStore.read`."""
        return dict(self._counters.get(name, ()))
