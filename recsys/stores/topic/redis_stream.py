"""The interaction topic on Redis or Valkey Streams: one stream per partition, native consumer groups.

Outside producers join in with `XADD {prefix}{name}:{partition} * key USER value JSON`; a header is a
further field `header:NAME`. A group that is no longer read must be removed (`XGROUP DESTROY`): what some
group has not finished is never dropped, so its streams fill up and the topic refuses more.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from recsys.clients.redis import Argument, Exchange
from recsys.errors import TopicUnavailable
from recsys.settings import StoreSettings, TopicSettings
from recsys.stores.topic import stream_scripts
from recsys.stores.topic.protocol import Outgoing
from recsys.stores.topic.sharing import partition_of
from recsys.stores.topic.stream_group import HEADER, StreamKeys, StreamMember, next_offsets

CHUNK = 500
"""Messages added in one step: the server does nothing else during it (about a millisecond)."""


class RedisStreamTopic:
    """An `InteractionTopic` on the server of the feature store."""

    def __init__(self, topic: TopicSettings, store: StoreSettings) -> None:
        self._topic = topic
        self._store = store
        self._keys = StreamKeys(store.prefix, topic.name, topic.partitions)

    @asynccontextmanager
    async def producer(self) -> AsyncIterator["StreamProducer"]:
        """See `InteractionTopic.producer`."""
        async with self._opened() as exchange:
            yield StreamProducer(self._topic, self._keys, exchange)

    @asynccontextmanager
    async def consumer(self, group: str) -> AsyncIterator[StreamMember]:
        """See `InteractionTopic.consumer`; partitions are shared out by leases."""
        async with self._opened() as exchange:
            member = StreamMember(self._topic, self._keys, group, exchange, self._store.timeout)
            async with member.membership():
                yield member

    async def next_offsets(self) -> dict[str, int]:
        """See `InteractionTopic.next_offsets`."""
        async with self._opened() as exchange:
            return await next_offsets(exchange, self._keys, range(self._topic.partitions))

    async def ping(self) -> None:
        """See `InteractionTopic.ping`."""
        async with self._opened() as exchange:
            await exchange.ping()

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Exchange]:
        """Every script may be sent twice without harm, so one retry on a lost connection is safe."""
        exchange = Exchange(self._store, "the topic", TopicUnavailable)
        try:
            yield exchange
        finally:
            await exchange.aclose()


class StreamProducer:
    """A `TopicProducer` that adds messages by a script, `CHUNK` at a time."""

    def __init__(self, topic: TopicSettings, keys: StreamKeys, exchange: Exchange) -> None:
        self._topic = topic
        self._keys = keys
        self._exchange = exchange
        self._in_flight = 0

    async def send(self, messages: Sequence[Outgoing]) -> list[Exception | None]:
        """See `TopicProducer.send`; fails as well where a stream is full."""
        room = max(0, self._topic.max_in_flight - self._in_flight)
        batch = messages[:room]
        self._in_flight += len(batch)
        try:
            results, failure = await self._send(batch)
        finally:
            self._in_flight -= len(batch)
        results += [failure] * (len(batch) - len(results))
        busy = TopicUnavailable(f"{self._topic.max_in_flight} messages wait for their acknowledgement")
        return results + [busy] * (len(messages) - len(batch))

    async def _send(self, messages: Sequence[Outgoing]) -> tuple[list[Exception | None], Exception | None]:
        """What is known of the first messages, and what happened to the rest."""
        results: list[Exception | None] = []
        try:
            with self._exchange.translated():
                async with asyncio.timeout(self._topic.send_timeout):
                    for start in range(0, len(messages), CHUNK):
                        reply = await self._append(messages[start : start + CHUNK])
                        results += [self._result(answer) for answer in reply]
        except TopicUnavailable as failure:
            return results, failure
        return results, None

    async def _append(self, messages: Sequence[Outgoing]) -> list[bytes]:
        arguments: list[Argument] = [self._topic.max_length, round(self._topic.retention * 1000)]
        places: dict[int, int] = {}
        for message in messages:
            partition = partition_of(message.key, self._topic.partitions)
            position = places.setdefault(partition, len(places) + 1)
            arguments += (position, 4 + 2 * len(message.headers), "key", message.key, "value", message.value)
            for name, value in message.headers.items():
                arguments += (HEADER + name.encode(), value)
        streams = [self._keys.stream(partition) for partition in places]
        reply: list[bytes]
        (reply,) = await self._exchange.scripted(stream_scripts.ADD, [(streams, arguments)])
        return reply

    def _result(self, answer: bytes) -> Exception | None:
        if answer[:1].isdigit():
            return None
        if answer == b"FULL":
            return TopicUnavailable(
                f"topic {self._topic.name} is full: {self._topic.max_length} messages of a partition wait to be read"
            )
        return TopicUnavailable(f"topic {self._topic.name}: {answer.decode(errors='replace')}")
