"""InteractionProducer: sends messages to the topic and waits for their acknowledgement. It connects on first
use, so that the service starts and recommends while the topic is down. A spool, if any, keeps undelivered messages."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from enum import StrEnum

import structlog

from app.spool.spool import Spool
from recsys.errors import InvalidInput, TopicUnavailable
from recsys.messages.envelope import HEADERS
from recsys.messages.wire import MAX_MESSAGE_BYTES, Message, encode, key_of
from recsys.observability.throttle import log_throttled
from recsys.stores.topic import InteractionTopic, Outgoing, TopicProducer

log = structlog.get_logger()


class Destination(StrEnum):
    """Where a message is stored safely."""

    TOPIC = "topic"
    SPOOL = "spool"


class InteractionProducer:
    """Sends messages to the topic or the spool. At most `max_bytes` wait, so that a hanging topic does not fill memory.

    With a spool, at most half of them wait for the topic; the other half is for the spool.
    """

    def __init__(self, topic: InteractionTopic, max_bytes: int, spool: Spool | None = None) -> None:
        self._topic = topic
        self._max_bytes = max_bytes
        self._bytes = self._on_the_way = 0
        self.spool = spool
        self._stack = AsyncExitStack()
        self._producer: TopicProducer | None = None
        self._connecting = asyncio.Lock()

    async def connect(self) -> TopicProducer:
        """The open producer. Raises `TopicUnavailable` when it cannot be opened now."""
        async with self._connecting:
            if self._producer is None:
                self._producer = await self._stack.enter_async_context(self._topic.producer())
            return self._producer

    def make_sure_of_room(self, size: int) -> None:
        """Raises `TopicUnavailable` if `size` more bytes are too many."""
        if self._bytes and self._bytes + size > self._max_bytes:
            raise _busy(self._bytes)

    async def send(self, messages: Sequence[Message]) -> list[Exception | None]:
        """One entry per message: `None` if it is stored safely, else the error."""
        outcomes = await self.keep([outgoing_of(message) for message in messages])
        return [None if isinstance(outcome, Destination) else outcome for outcome in outcomes]

    async def keep(self, outgoing: Sequence[Outgoing]) -> list[Destination | Exception]:
        """One entry per message: where it is stored, else the error.

        The error is `InvalidInput` for a message that is too large, `TopicUnavailable` if a retry may succeed.
        """
        size = sum(len(message.value) for message in outgoing)
        try:
            self.make_sure_of_room(size)
        except TopicUnavailable as busy:
            return [busy] * len(outgoing)
        self._bytes += size
        try:
            readable = [message for message in outgoing if len(message.value) <= MAX_MESSAGE_BYTES]
            outcomes = iter(await self._keep(readable) if readable else ())
        finally:
            self._bytes -= size
        return [
            next(outcomes) if len(message.value) <= MAX_MESSAGE_BYTES else _too_large(message) for message in outgoing
        ]

    async def _keep(self, outgoing: Sequence[Outgoing]) -> Sequence[Destination | Exception]:
        spool = self.spool
        if spool is None:
            return [failure or Destination.TOPIC for failure in await self._deliver(outgoing)]
        try:
            if not spool.idle and await spool.keep_behind(outgoing):
                return [Destination.SPOOL] * len(outgoing)
        except TopicUnavailable as refusal:
            return [refusal] * len(outgoing)
        failures = await self._deliver_some(outgoing)
        remainder = [message for message, failure in zip(outgoing, failures, strict=True) if failure]
        outcome: Destination | Exception = Destination.SPOOL
        try:
            if remainder:
                await spool.keep(remainder)
        except TopicUnavailable as refusal:
            outcome = refusal
        return [outcome if failure else Destination.TOPIC for failure in failures]

    async def _deliver_some(self, outgoing: Sequence[Outgoing]) -> list[Exception | None]:
        """Deliver like `_deliver`, unless more than half the bytes would be on the way."""
        size = sum(len(message.value) for message in outgoing)
        if self._on_the_way and self._on_the_way + size > self._max_bytes // 2:
            return [_busy(self._on_the_way)] * len(outgoing)
        self._on_the_way += size
        try:
            return await self._deliver(outgoing)
        finally:
            self._on_the_way -= size

    async def _deliver(self, outgoing: Sequence[Outgoing]) -> list[Exception | None]:
        """One entry per message: `None` if the topic has acknowledged it, else the error."""
        try:
            producer = self._producer or await self.connect()
        except TopicUnavailable as error:
            log_throttled(log, "warning", "the topic cannot be reached", error=str(error))
            return [error] * len(outgoing)
        return await producer.send(outgoing)

    async def run(self) -> None:
        """Send the messages of the spool, which must exist, to the topic until cancelled."""
        assert self.spool is not None  # noqa: S101
        await self.spool.run(self._deliver)

    async def aclose(self) -> None:
        """Close the spool and the connection to the topic."""
        if self.spool is not None:
            await self.spool.aclose()
        await self._stack.aclose()


def outgoing_of(message: Message) -> Outgoing:
    """The message as it goes onto the topic."""
    return Outgoing(key_of(message), encode(message), HEADERS)


def _busy(waiting: int) -> TopicUnavailable:
    return TopicUnavailable(f"{waiting} bytes wait for their acknowledgement")


def _too_large(message: Outgoing) -> InvalidInput:
    return InvalidInput("body", f"makes a message of {len(message.value)} bytes, {MAX_MESSAGE_BYTES} are allowed")
