"""A topic that is down, deaf or full says so in time, and is used again as soon as it can be."""

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from recsys.errors import TopicUnavailable
from recsys.settings import KafkaSettings, StoreSettings, TopicSettings
from recsys.stores.topic import InteractionTopic, open_interaction_topic
from recsys.stores.topic.kafka import KafkaTopic
from tests.contracts.interaction_topic.conftest import Bench, KafkaBrokers, free_port, noida, running
from tests.contracts.interaction_topic.reading import ends, messages, take
from tests.environment.waiting import wait_until

SEND_TIMEOUT = 0.4


@pytest.fixture(params=["refuses", "is deaf"])
def dead_port(request: pytest.FixtureRequest) -> Iterator[int]:
    """A port where nobody listens, or where connections are made and never answered."""
    if request.param == "refuses":
        yield free_port()
        return
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture(params=["redis", "kafka"])
def dead_topic(request: pytest.FixtureRequest, dead_port: int) -> InteractionTopic:
    kafka = KafkaSettings(bootstrap=f"127.0.0.1:{dead_port}")
    topic = TopicSettings(backend=request.param, send_timeout=SEND_TIMEOUT, kafka=kafka)
    store = StoreSettings(url=SecretStr(f"redis://127.0.0.1:{dead_port}"), timeout=SEND_TIMEOUT)
    return open_interaction_topic(topic, store)


async def test_a_dead_topic_refuses_every_message_in_time_and_never_raises(dead_topic: InteractionTopic) -> None:
    async with dead_topic.producer() as producer:
        for _ in range(2):
            started = time.monotonic()
            results = await producer.send(messages(3))
            assert time.monotonic() - started < SEND_TIMEOUT + 0.5
            assert len(results) == 3
            assert all(isinstance(result, TopicUnavailable) and result.retry_after > 0 for result in results)


async def test_many_senders_to_a_dead_topic_do_not_queue_behind_each_other(dead_topic: InteractionTopic) -> None:
    async with dead_topic.producer() as producer:
        started = time.monotonic()
        answers = await asyncio.gather(*(producer.send(messages(1)) for _ in range(50)))
        assert time.monotonic() - started < SEND_TIMEOUT + 1
    assert all(isinstance(answer[0], TopicUnavailable) for answer in answers)


async def test_a_dead_topic_fails_its_ping_in_time(dead_topic: InteractionTopic) -> None:
    started = time.monotonic()
    with pytest.raises(TopicUnavailable):
        await dead_topic.ping()
    assert time.monotonic() - started < 3 * SEND_TIMEOUT + 0.5


async def test_a_consumer_of_a_dead_topic_says_so(dead_topic: InteractionTopic, dead_port: int) -> None:
    started = time.monotonic()
    async with dead_topic.consumer("features") as consumer:
        try:
            batch = await consumer.poll(10, 0.5)
        except TopicUnavailable:
            batch = []
        assert batch == []
        await consumer.commit({"interactions-0": 1})
    assert time.monotonic() - started < 8


@pytest.fixture(params=["memory", "redis"])
def bounded(request: pytest.FixtureRequest, store_settings: StoreSettings, brokers: KafkaBrokers) -> Bench:
    return Bench(request.param, "bounded", store_settings, brokers)


async def test_a_full_topic_refuses_until_every_group_has_finished(bounded: Bench) -> None:
    topic = bounded.topic(partitions=1, max_length=10)
    async with topic.producer() as producer, topic.consumer("features") as one, topic.consumer("log") as other:
        await one.poll(1, 0.05)
        await other.poll(1, 0.05)
        results = await producer.send(messages(12))
        assert results[:10] == [None] * 10
        assert all(isinstance(result, TopicUnavailable) for result in results[10:])
        await one.commit(ends(await take(one, 10)))
        assert isinstance((await producer.send(messages(1)))[0], TopicUnavailable)
        await other.commit(ends(await take(other, 10)))
        assert await producer.send(messages(10)) == [None] * 10
        assert len(await take(one, 10)) == len(await take(other, 10)) == 10


async def test_kafka_is_used_as_soon_as_its_broker_lives_and_again_after_it_was_killed(tmp_path: Path) -> None:
    port = free_port()
    topic = KafkaTopic(TopicSettings(send_timeout=2, kafka=KafkaSettings(bootstrap=f"127.0.0.1:{port}")))
    broker = running(noida(port, tmp_path), port, tmp_path / "log")
    async with topic.producer() as producer, topic.consumer("features") as consumer:

        async def sends(number: int) -> bool:
            return await producer.send(messages(1, start=number)) == [None]

        async def receives(value: bytes) -> bool:
            with suppress(TopicUnavailable):
                return value in [message.value for message in await consumer.poll(10, 0.2)]
            return False

        assert not await sends(0)
        with broker:
            await wait_until(lambda: sends(1))
            await wait_until(lambda: receives(b"1"))
        assert not await sends(2)
        with running(noida(port, tmp_path), port, tmp_path / "log"):
            await wait_until(lambda: sends(3))
            await wait_until(lambda: receives(b"3"))


async def test_a_send_fails_while_the_store_is_frozen_and_works_again_after(store_settings: StoreSettings) -> None:
    topic = open_interaction_topic(TopicSettings(send_timeout=0.3), store_settings)
    control = Redis.from_url(store_settings.url.get_secret_value())
    async with control, topic.producer() as producer:
        await control.client_pause(900, all=False)
        assert isinstance((await producer.send(messages(1)))[0], TopicUnavailable)

        async def works() -> bool:
            return await producer.send(messages(1)) == [None]

        await wait_until(works)
