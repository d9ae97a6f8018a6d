"""The interaction topic on Kafka (aiokafka): idempotent producer, all acknowledgements, explicit commits."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.codec import has_lz4
from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    IllegalStateError,
    KafkaError,
    MessageSizeTooLargeError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

from recsys.clients import kafka
from recsys.clients.kafka import Starting, translated, within
from recsys.errors import TopicUnavailable
from recsys.settings import TopicSettings
from recsys.stores.topic.protocol import Delivered, Outgoing

log = structlog.get_logger(__name__)

LINGER_MS = 1
LOST_PARTITION = (
    CommitFailedError,
    IllegalGenerationError,
    IllegalStateError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)


class KafkaTopic:
    """An `InteractionTopic` on a Kafka cluster. Creates the topic where it is missing."""

    def __init__(self, topic: TopicSettings) -> None:
        self._topic = topic

    @asynccontextmanager
    async def producer(self) -> AsyncIterator["KafkaProducer"]:
        """See `InteractionTopic.producer`; closed within `CLOSE_TIMEOUT` of the client seconds."""
        producer = KafkaProducer(self._topic)
        try:
            yield producer
        finally:
            await producer.aclose()

    @asynccontextmanager
    async def consumer(self, group: str) -> AsyncIterator["KafkaConsumer"]:
        """See `InteractionTopic.consumer`; the Kafka group is named `{topic}.{group}`."""
        consumer = KafkaConsumer(self._topic, group)
        try:
            yield consumer
        finally:
            await consumer.aclose()

    async def next_offsets(self) -> dict[str, int]:
        """See `InteractionTopic.next_offsets`."""
        async with within():
            client = AIOKafkaConsumer(**kafka.client_options(self._topic.kafka))
            try:
                await client.start()
                numbers = await client._client.fetch_all_metadata()
                partition_numbers = numbers.partitions_for_topic(self._topic.name) or ()
                ends = await client.end_offsets(
                    [TopicPartition(self._topic.name, number) for number in partition_numbers]
                )
            finally:
                await client.stop()
        return {_name(partition): int(offset) for partition, offset in ends.items()}

    async def ping(self) -> None:
        """See `InteractionTopic.ping`."""
        await kafka.ping(self._topic)


class KafkaProducer:
    """A `TopicProducer` with at most `max_in_flight` messages that wait for their acknowledgement."""

    def __init__(self, topic: TopicSettings) -> None:
        self._topic = topic
        self._client: Starting[AIOKafkaProducer] = Starting(topic, self._build, kafka.stop_producer)
        self._in_flight = 0
        self._waiting: set[asyncio.Future[Any]] = set()

    def _build(self) -> AIOKafkaProducer:
        client = AIOKafkaProducer(
            **kafka.client_options(self._topic.kafka),
            acks="all",
            enable_idempotence=self._topic.kafka.idempotent,
            compression_type="lz4" if has_lz4() else None,
            linger_ms=LINGER_MS,
        )
        kafka.paced(client.client)
        return client

    async def send(self, messages: Sequence[Outgoing]) -> list[Exception | None]:
        """See `TopicProducer.send`; returns after `send_timeout` seconds at the latest."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._topic.send_timeout
        batch = messages[: max(0, self._topic.max_in_flight - self._in_flight)]
        waiting, failure = await self._hand_over(batch, deadline)
        if waiting:
            await asyncio.wait(waiting, timeout=max(0.0, deadline - loop.time()))
        results = [self._result(future) for future in waiting] + [failure] * (len(batch) - len(waiting))
        busy = TopicUnavailable(f"{self._topic.max_in_flight} messages wait for their acknowledgement")
        return results + [busy] * (len(messages) - len(batch))

    async def _hand_over(
        self, messages: Sequence[Outgoing], deadline: float
    ) -> tuple[list["asyncio.Future[Any]"], Exception | None]:
        """One future per message that the client took, in order, and why it took no more."""
        waiting: list[asyncio.Future[Any]] = []
        self._in_flight += len(messages)
        try:
            with translated():
                async with asyncio.timeout_at(deadline):
                    client = await self._client.get()
                    for message in messages:
                        headers = list(message.headers.items())
                        future = await client.send(
                            self._topic.name, message.value, message.key.encode(), headers=headers
                        )
                        self._waiting.add(future)
                        future.add_done_callback(self._landed)
                        waiting.append(future)
        except TopicUnavailable as failure:
            self._judge(failure.__cause__)
            return waiting, failure
        finally:
            self._in_flight -= len(messages) - len(waiting)
        return waiting, None

    def _landed(self, future: "asyncio.Future[Any]") -> None:
        self._in_flight -= 1
        self._waiting.discard(future)
        if not future.cancelled():
            self._judge(future.exception())

    def _judge(self, error: BaseException | None) -> None:
        """An idempotent producer that lost its place (a fatal error) refuses every further message: start another.

        What still waits counts as failed from now on, so that it cannot be acknowledged after newer messages.
        """
        if isinstance(error, KafkaError) and not error.retriable and not isinstance(error, MessageSizeTooLargeError):
            self._let_go()
            self._client.discard()

    def _let_go(self) -> None:
        for future in self._waiting:
            future.cancel()

    def _result(self, future: "asyncio.Future[Any]") -> Exception | None:
        if not future.done() or future.cancelled():
            return TopicUnavailable(f"Kafka did not acknowledge within {self._topic.send_timeout} s")
        if (error := future.exception()) is not None:
            return TopicUnavailable(f"Kafka refused the message: {error}")
        return None

    async def aclose(self) -> None:
        """Close the client; messages without an acknowledgement count as failed."""
        await self._client.aclose()
        self._let_go()


class KafkaConsumer(ConsumerRebalanceListener):  # type: ignore[misc]
    """A `TopicConsumer` of a Kafka consumer group."""

    def __init__(self, topic: TopicSettings, group: str) -> None:
        self._topic = topic
        self._group = group
        self._client: Starting[AIOKafkaConsumer] = Starting(topic, self._build, kafka.stop_consumer)
        self._delivered: dict[str, tuple[TopicPartition, int]] = {}
        """Partitions of the present assignment by name, with the first offset that was delivered of each since."""

    def _build(self) -> AIOKafkaConsumer:
        session_ms = round(self._topic.kafka.session_timeout * 1000)
        client = AIOKafkaConsumer(
            **kafka.client_options(self._topic.kafka),
            group_id=f"{self._topic.name}.{self._group}",  # a group belongs to one topic, as on Streams
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=session_ms // 3,
        )
        kafka.paced(client._client)
        client.subscribe([self._topic.name], listener=self)
        return client

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Forget what was delivered of these partitions: their new owner commits it.

        A batch in hand is abandoned rather than waited for: the group would stand still until then, and what it
        still writes its successor writes too, to the same effect.
        """
        for partition in revoked:
            self._delivered.pop(_name(partition), None)

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Does nothing: the client starts each partition after what was committed."""

    async def poll(self, limit: int, timeout: float) -> list[Delivered]:
        """See `TopicConsumer.poll`; empty as well while the group shares out its partitions."""
        # Bounded by a timeout of ours too: while the group shares out its partitions, the client waits without a limit.
        with translated():
            try:
                async with asyncio.timeout(timeout):
                    client = await self._client.get()
                    records = await client.getmany(timeout_ms=round(timeout * 1000), max_records=limit)
            except TimeoutError:
                return []
        for partition, batch in records.items():
            self._delivered.setdefault(_name(partition), (partition, batch[0].offset))
        return [_delivered(record) for batch in records.values() for record in batch]

    async def commit(self, offsets: Mapping[str, int]) -> None:
        """See `TopicConsumer.commit`."""
        # A partition that went and came back may have been committed further by others: it must not be set back.
        ours: dict[TopicPartition, int] = {}
        for name, offset in offsets.items():
            partition, first = self._delivered.get(name, (None, 0))
            if partition is not None and offset >= first:
                ours[partition] = offset + 1
        client = self._client.started
        if client is None or not ours:
            return
        async with within():
            try:
                await client.commit(ours)
            except LOST_PARTITION as error:
                log.info("topic.commit_left_out", group=self._group, reason=str(error))

    async def lag(self) -> dict[str, int]:
        """See `TopicConsumer.lag`."""
        client = self._client.started
        if client is None:
            return {}
        async with within():
            partitions = sorted(client.assignment())
            ends = await client.end_offsets(partitions)
            starts = await client.beginning_offsets(partitions)
            committed = [await client.committed(partition) for partition in partitions]
        return {
            _name(partition): max(0, ends[partition] - (starts[partition] if done is None else done))
            for partition, done in zip(partitions, committed, strict=True)
        }

    async def next_offsets(self) -> dict[str, int]:
        """See `TopicConsumer.next_offsets`."""
        client = self._client.started
        if client is None:
            return {}
        async with within():
            ends = await client.end_offsets(client.assignment())
        return {_name(partition): int(offset) for partition, offset in ends.items()}

    async def aclose(self) -> None:
        """Leave the group and close the client."""
        await self._client.aclose()


def _name(partition: TopicPartition) -> str:
    return f"{partition.topic}-{partition.partition}"


def _delivered(record: Any) -> Delivered:
    """A tombstone's value, and a key or header that is missing, are empty."""
    return Delivered(
        f"{record.topic}-{record.partition}",
        record.offset,
        (record.key or b"").decode(errors="replace"),
        record.value or b"",
        {name: value or b"" for name, value in record.headers},
        max(0, record.timestamp),
    )
