"""The store of counters: running counts of a shadow, by the name of its rollout.

The service alone writes it: every process adds what its shadow counted. Operators read it by API and command line.
"""

from collections.abc import Mapping
from typing import Protocol

COUNTER_TTL = 60 * 86_400
"""Seconds that counters stay after the last count."""


class CounterStore(Protocol):
    """Running counts. Methods raise `StoreUnavailable` when the server does not answer in time."""

    async def increment(self, name: str, counts: Mapping[str, int]) -> None:
        """Add to the running counts kept under `name`. One that fails may or may not have counted."""
        ...

    async def read(self, name: str) -> dict[str, int]:
        """The running counts under `name`; empty where there are none."""
        ...
