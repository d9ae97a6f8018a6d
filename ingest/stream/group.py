"""Group: what a consumer group does with batches of the topic."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from ingest.stream.flow import Batch


class Group(Protocol):
    """A consumer group: applies batches of the topic and knows how far it has come."""

    @property
    def name(self) -> str:
        """Return the group's name, as used by the topic and the metrics."""
        ...

    @property
    def versions(self) -> Sequence[str]:
        """Return the index versions that events are folded into."""
        ...

    async def apply(self, batch: Batch) -> int:
        """Apply `batch` and return how many of its messages were applied before; idempotent.

        Raises `Unavailable` when the batch must be applied again.
        """
        ...

    async def watermarks(self, partitions: Collection[str]) -> Mapping[str, int]:
        """Return the last applied offset of each of `partitions`, where it is known. Raises `Unavailable`.

        A message at or below that offset counts as a repeat.
        """
        ...
