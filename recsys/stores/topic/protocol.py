"""The interaction topic: order per key, at-least-once, one writer per message, any number of groups."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

MAX_OFFSET = 2**62 - 1
"""What no topic reaches: on Streams that of the year 2109. A stored offset beyond would mute its user for ever."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What a producer sends. Messages of one `key` keep their order."""

    key: str
    value: bytes
    headers: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Delivered:
    """What a consumer receives. Offsets grow within a `partition` (they need not be dense)."""

    partition: str
    offset: int
    key: str
    value: bytes
    headers: Mapping[str, bytes]
    produced_at_ms: int


class TopicProducer(Protocol):
    """Sends messages to the topic."""

    async def send(self, messages: Sequence[Outgoing]) -> list[Exception | None]:
        """Send all and wait for their acknowledgements; one entry per message, `None` where acknowledged.

        A failed entry is a `TopicUnavailable` (with `retry_after`): that message may or may not be on
        the topic, and is safe to send again because consumers recognise its event id. Never raises for
        the topic's sake; ordering holds per key among acknowledged messages.
        """
        ...


class TopicConsumer(Protocol):
    """One member of a consumer group. Partitions are shared out among the members alive."""

    async def poll(self, limit: int, timeout: float) -> list[Delivered]:
        """Up to `limit` next messages, in order within each partition; empty after `timeout` seconds.

        Messages that were delivered and not committed come again, in order, to the member that owns the
        partition after this member ends or fails. Raises `TopicUnavailable`.
        """
        ...

    async def commit(self, offsets: Mapping[str, int]) -> None:
        """Mark everything up to and including `offsets[partition]` as done by this group.

        Partitions this member no longer owns are left out in silence: their new owner redoes them.
        Raises `TopicUnavailable`.
        """
        ...

    async def lag(self) -> dict[str, int]:
        """Messages not yet committed by the group, per partition this member owns."""
        ...

    async def next_offsets(self) -> dict[str, int]:
        """Per partition this member owns: messages to come have this offset or a higher one.

        Raises `TopicUnavailable`.
        """
        ...


class InteractionTopic(Protocol):
    """Opens producers and consumers, which connect on first use: entering one does not fail while the topic is down."""

    def producer(self) -> AbstractAsyncContextManager[TopicProducer]:
        """A producer that is closed at the end of the block."""
        ...

    def consumer(self, group: str) -> AbstractAsyncContextManager[TopicConsumer]:
        """Join `group`, starting at the oldest message kept where the group has committed nothing."""
        ...

    async def next_offsets(self) -> dict[str, int]:
        """Per partition of the topic: messages to come have this offset or a higher one. Raises `TopicUnavailable`."""
        ...

    async def ping(self) -> None:
        """Check that the topic answers. Raises `TopicUnavailable` where it does not."""
        ...
