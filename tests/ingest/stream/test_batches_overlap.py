"""Batches overlap: the next is fetched while a full one takes effect, and none is committed before its effects."""

import asyncio
from collections.abc import Collection, Mapping

import pytest

from ingest.settings import IngestSettings
from ingest.stream.consumer import GroupLoop
from ingest.stream.flow import Batch
from recsys.settings import TopicBackend, TopicSettings
from recsys.stores.topic import Delivered, Outgoing, TopicConsumer
from recsys.stores.topic.memory import MemoryTopic
from tests.environment.waiting import wait_until


class ConsumerSpy:
    """A consumer, and what it was asked for."""

    def __init__(self, inner: TopicConsumer) -> None:
        self._inner = inner
        self.polled: list[int] = []
        self.committed: list[int] = []

    async def poll(self, limit: int, timeout: float) -> list[Delivered]:
        messages = await self._inner.poll(limit, timeout)
        if messages:
            self.polled.append(max(message.offset for message in messages))
        return messages

    async def commit(self, offsets: Mapping[str, int]) -> None:
        await self._inner.commit(offsets)
        self.committed.append(*offsets.values())

    async def lag(self) -> dict[str, int]:
        return await self._inner.lag()

    async def next_offsets(self) -> dict[str, int]:
        return await self._inner.next_offsets()


class Patient:
    """A group that is done with a batch when the one after it has been polled; stops after `batches` of `there`."""

    name = "features"
    versions = ()

    def __init__(self, consumer: ConsumerSpy, stop: asyncio.Event, batches: int, there: int) -> None:
        self._consumer = consumer
        self._stop = stop
        self._batches = batches
        self._there = there
        self.applied: list[int] = []

    async def watermarks(self, partitions: Collection[str]) -> Mapping[str, int]:
        return dict.fromkeys(partitions, -1)

    async def apply(self, batch: Batch) -> int:
        assert self._consumer.committed == self.applied, "effects first, offsets last"
        ahead = min(len(self.applied) + 2, self._there)
        await wait_until(lambda: len(self._consumer.polled) >= ahead)
        self.applied += batch.offsets.values()
        if len(self.applied) == self._batches:
            self._stop.set()
        return 0


async def consume(topic: MemoryTopic, batches: int) -> tuple[Patient, ConsumerSpy]:
    """`batches` of three of the nine messages there are."""
    stop = asyncio.Event()
    async with topic.consumer("features") as inner:
        consumer = ConsumerSpy(inner)
        group = Patient(consumer, stop, batches, 3)
        async with asyncio.timeout(20):
            await GroupLoop(group, consumer, IngestSettings(), 3, 0.0, stop).run()
    return group, consumer


@pytest.fixture
async def topic() -> MemoryTopic:
    topic = MemoryTopic(TopicSettings(backend=TopicBackend.MEMORY, partitions=1))
    async with topic.producer() as producer:
        await producer.send([Outgoing("ada", b"{}") for _ in range(9)])
    return topic


async def test_the_next_batch_is_polled_while_a_full_one_takes_effect(topic: MemoryTopic) -> None:
    group, consumer = await consume(topic, 3)
    assert group.applied == consumer.polled == consumer.committed == [2, 5, 8]


async def test_what_was_polled_ahead_of_a_stop_is_left_for_whoever_comes_next(topic: MemoryTopic) -> None:
    _, consumer = await consume(topic, 1)
    assert (consumer.polled, consumer.committed) == ([2, 5], [2])
    async with topic.consumer("features") as successor:
        assert [message.offset for message in await successor.poll(100, 5.0)] == [3, 4, 5, 6, 7, 8]
