"""Group: what a consumer group does with batches of the topic."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from ingest.flow import Batch


class Group(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def versions(self) -> Sequence[str]:
        """Those that events are folded into."""
        ...

    async def apply(self, batch: Batch) -> int:
        """Bring about every effect of `batch`; idempotent. How many of its messages had been done with already.

        Raises `Unavailable` when it shall be tried again.
        """
        ...

    async def watermarks(self, partitions: Collection[str]) -> Mapping[str, int]:
        """The last offset done with, of each of `partitions` where it is known. Raises `Unavailable`.

        What the topic has at or below it counts as a repeat.
        """
        ...
