"""Dead letters on real topics: a poison record blocks nothing, an outage is none, a replay counts once."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_hex

import pytest
from aiokafka import AIOKafkaProducer
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from pydantic import SecretStr
from redis.asyncio import Redis

from ingest.maintenance.replay import CHUNK, rehearse, replay
from ingest.settings import IngestSettings
from ingest.stream.dead_letter import DeadLetterWriter, dead_letter_topic, field_label
from ingest.stream.flow import Batch, decode_batch
from ingest.stream.log import LogGroup
from recsys.errors import TopicUnavailable
from recsys.messages import wire
from recsys.messages.interaction import Erasure, Interaction
from recsys.settings import KafkaSettings, TopicBackend, TopicSettings
from recsys.stores.dead_letters import DeadLetters, open_dead_letters
from recsys.stores.dead_letters.memory import MemoryDeadLetters
from recsys.stores.dead_letters.protocol import DeadLetter, LetterQuery, Refusal, Status
from recsys.stores.event_log import open_interaction_log
from recsys.stores.event_log.memory import MemoryInteractionLog
from recsys.stores.online import open_stores
from recsys.stores.topic import Delivered, Outgoing, TopicProducer, open_interaction_topic
from recsys.users import PositionedMessage
from tests.environment.waiting import WaitUntil
from tests.faults.tcp_proxy import TcpProxy, proxying
from tests.ingest.running import Ingest

NOW = datetime.now(UTC).replace(microsecond=0)
ALL = LetterQuery(status=None)
BRACKETS = 20_000
POISON = {
    "garbage": b"\x00\x01\xfe\xff",
    "a megabyte": b'{"kind":"interaction","pad":"' + b"x" * 1_000_000 + b'"}',
    "invalid UTF-8": b'{"kind":"interaction","event_id":"e","user_id":"\xff"}',
    "deep nesting": b'{"kind":"interaction","extra":{"a":' + b"[" * BRACKETS + b"]" * BRACKETS + b"}}",
    "empty": b"",
    "not a message": b'{"kind":"order"}',
}


@pytest.fixture(params=["streams", "kafka"])
def on_any_topic(request: pytest.FixtureRequest, ingest: Ingest) -> Ingest:
    return request.getfixturevalue("on_kafka") if request.param == "kafka" else ingest


@pytest.fixture
def on_kafka(ingest: Ingest, kafka_bootstrap: str) -> Ingest:
    kafka = KafkaSettings(bootstrap=kafka_bootstrap, session_timeout=6)
    name = f"letters-{token_hex(6)}"
    topic = TopicSettings(backend=TopicBackend.KAFKA, name=name, partitions=2, send_timeout=10, kafka=kafka)
    return replace(ingest, topic=topic)


@pytest.fixture
def letters(ingest: Ingest) -> DeadLetters:
    return open_dead_letters(ingest.log)


@pytest.fixture
def proxy(ingest: Ingest) -> Iterator[TcpProxy]:
    """Between the consumers and their store."""
    with proxying(ingest.store.url.get_secret_value().removeprefix("unix://")) as opened:
        yield opened


def bought(event: object, user: str = "ada", at: datetime = NOW) -> Interaction:
    return Interaction(event_id=f"e{event}", user_id=user, item_id="i2", type="purchase", occurred_at=at)


def refusal(offset: int, key: str = "ada", partition: str = "p-0") -> Refusal:
    return Refusal("broken", "message", partition, offset, b"\xff", NOW, key)


def logged(ingest: Ingest) -> list[str]:
    rows = open_interaction_log(ingest.log).read().select("event_id").collect()
    return sorted(rows.get_column("event_id").to_list())


async def remembered(ingest: Ingest, user: str = "ada") -> int:
    stores = open_stores(ingest.store)
    try:
        (features,) = await stores.users.load([user])
    finally:
        await stores.aclose()
    return len(features.history)


async def send_tombstone(ingest: Ingest) -> None:
    """What a Kafka producer sends to delete a key; on Streams, an entry without a value."""
    if ingest.topic.backend is TopicBackend.KAFKA:
        async with AIOKafkaProducer(bootstrap_servers=ingest.topic.kafka.bootstrap) as producer:
            await producer.send_and_wait(ingest.topic.name, key=b"ada", value=None)
        return
    async with Redis.from_url(ingest.store.url.get_secret_value()) as server:
        await server.xadd(f"{ingest.store.prefix}{ingest.topic.name}:0", {"key": "ada"})


async def told(ingest: Ingest, count: int) -> list[Delivered]:
    """The first `count` messages of the dead letters' own topic."""
    async with open_interaction_topic(dead_letter_topic(ingest.topic), ingest.store).consumer("reader") as reader:
        found: list[Delivered] = []
        async with asyncio.timeout(20):
            while len(found) < count:
                found += await reader.poll(100, 1.0)
        return found


@asynccontextmanager
async def producing(ingest: Ingest) -> AsyncIterator[TopicProducer]:
    async with open_interaction_topic(ingest.topic, ingest.store).producer() as producer:
        yield producer


async def replayed(ingest: Ingest, letters: DeadLetters, chosen: Sequence[DeadLetter] | None = None) -> int:
    async with producing(ingest) as producer:
        return await replay(letters, letters.letters(LetterQuery()) if chosen is None else chosen, producer, "ops", no)


def no(done: int) -> None:
    """No progress is shown."""


def count_of(field: str) -> float:
    return REGISTRY.get_sample_value("millirec_dead_letters_total", {"field": field}) or 0.0


async def test_a_poison_record_blocks_nothing_and_is_kept_as_it_came(
    on_any_topic: Ingest, letters: DeadLetters, wait_until: WaitUntil
) -> None:
    ingest, counted = on_any_topic, count_of("message")
    async with ingest.consuming():
        await ingest.send([bought(1)])
        await ingest.send_raw([("ada", value) for value in POISON.values()])
        await send_tombstone(ingest)
        await ingest.send([bought(2)])

        async def arrived() -> bool:
            return await remembered(ingest) == 2 and letters.waiting() == len(POISON) + 1 and len(logged(ingest)) == 2

        await wait_until(arrived, 30)
        waiting = letters.letters(LetterQuery())
        assert REGISTRY.get_sample_value("millirec_dead_letters_waiting") == len(waiting)
        copies = await told(ingest, len(waiting))
    content = letters.content(waiting)
    assert sorted(one.value for one in content.values()) == sorted([*POISON.values(), b""])
    assert {(one.status, one.times_seen, one.key) for one in waiting} == {(Status.WAITING, 1, "ada")}
    assert {copy.key: copy.value for copy in copies} == {letter: one.value for letter, one in content.items()}
    assert {copy.headers["reason"].decode() for copy in copies} == {one.reason for one in waiting}
    assert count_of("message") - counted >= len(POISON) - 1


async def test_a_store_that_is_down_makes_lag_and_no_dead_letter(
    on_kafka: Ingest, proxy: TcpProxy, letters: DeadLetters, wait_until: WaitUntil
) -> None:
    reached = on_kafka.store.model_copy(update={"url": SecretStr(f"redis://127.0.0.1:{proxy.port}"), "timeout": 1.0})
    through = on_kafka.on(reached)

    def lag() -> float:
        found = [
            REGISTRY.get_sample_value("millirec_consumer_lag", {"group": "features", "partition": name})
            for name in (f"{through.topic.name}-0", f"{through.topic.name}-1")
        ]
        return sum(one or 0.0 for one in found)

    async with through.consuming() as running:
        await on_kafka.send([bought(0)])

        async def first() -> bool:
            return await remembered(on_kafka) == 1

        await wait_until(first, 30)
        proxy.refuses()
        await on_kafka.send([bought(n) for n in range(1, 21)])
        await wait_until(lambda: len(logged(on_kafka)) == 21, 30)
        assert await remembered(on_kafka) == 1
        assert not running.done()
        proxy.passes()

        async def all_of_them() -> bool:
            return await remembered(on_kafka) == 21

        await wait_until(all_of_them, 30)
        await wait_until(lambda: lag() == 0, 30)
    assert letters.letters(ALL) == []


async def test_a_table_that_cannot_be_written_is_waited_for_and_nothing_is_lost(
    ingest: Ingest, letters: DeadLetters, tmp_path: Path, wait_until: WaitUntil
) -> None:
    obstacle = tmp_path / "log" / "dead_letters"
    obstacle.parent.mkdir()
    obstacle.write_text("a file where a folder should be")
    labels = {"group": "log", "system": "log"}
    before = REGISTRY.get_sample_value("millirec_consumer_retries_total", labels) or 0.0
    async with ingest.consuming("log"):
        await ingest.send_raw([("ada", b"\xff")])
        await wait_until(
            lambda: (REGISTRY.get_sample_value("millirec_consumer_retries_total", labels) or 0.0) > before + 1
        )
        obstacle.unlink()
        await wait_until(lambda: letters.waiting() == 1)


async def test_a_topic_of_dead_letters_that_is_full_holds_nothing_up(ingest: Ingest) -> None:
    letters = MemoryDeadLetters()
    refusals = [refusal(offset) for offset in range(5)]
    full = ingest.topic.model_copy(update={"max_length": 2})
    async with open_interaction_topic(dead_letter_topic(full), ingest.store).producer() as producer:
        group = LogGroup(MemoryInteractionLog(), DeadLetterWriter(letters, producer, retention=86_400))
        await group.apply(Batch(rejected=refusals, offsets={"p-0": 4}))
        await group.apply(Batch(rejected=refusals, offsets={"p-0": 4}))
    assert sorted(one.offset for one in letters.letters(ALL)) == [0, 1, 2, 3, 4]
    assert [one.headers["offset"] for one in await told(ingest, 2)] == [b"0", b"1"]


async def test_an_event_whose_time_has_come_is_counted_once_however_often_it_is_replayed(
    on_any_topic: Ingest, letters: DeadLetters, wait_until: WaitUntil
) -> None:
    strict, tomorrow = on_any_topic, NOW + timedelta(hours=20)
    lenient = replace(strict, ingest=strict.ingest.model_copy(update={"future_tolerance": 86_400.0}))
    async with strict.consuming():
        await strict.send([bought(n, at=tomorrow) for n in range(3)])
        await wait_until(lambda: letters.waiting() == 3, 30)
        first = letters.letters(LetterQuery())
        assert len(rehearse(letters, first, strict.ingest, NOW)) == 3
        assert rehearse(letters, first, lenient.ingest, NOW) == []
        assert await replayed(strict, letters) == 3
        await wait_until(lambda: [one.times_seen for one in letters.letters(LetterQuery())] == [2, 2, 2], 30)
    again = letters.letters(ALL)
    assert {(one.letter, one.offset) for one in again} == {(one.letter, one.offset) for one in first}
    assert await remembered(strict) == 0
    async with lenient.consuming():
        assert await replayed(lenient, letters) == 3
        assert await replayed(lenient, letters) == 0
        assert await replayed(lenient, letters, again) == 3
        await lenient.send([bought("last")])

        async def arrived() -> bool:
            return await remembered(lenient) == 4 and len(logged(lenient)) == 4

        await wait_until(arrived, 30)
    assert logged(lenient) == ["e0", "e1", "e2", "elast"]
    assert [one.status for one in letters.letters(ALL)] == [Status.REPLAYED] * 3


class ForgetfulProducer:
    """A producer whose connection breaks after each send: all arrived, and nobody knows."""

    def __init__(self, producer: TopicProducer) -> None:
        self._producer = producer

    async def send(self, messages: Sequence[Outgoing]) -> list[Exception | None]:
        await self._producer.send(messages)
        return [TopicUnavailable("the connection was lost") for _ in messages]


async def test_a_replay_that_breaks_off_in_the_middle_is_begun_again_and_counts_once(
    ingest: Ingest, letters: DeadLetters, wait_until: WaitUntil
) -> None:
    tomorrow = NOW + timedelta(hours=20)
    async with ingest.consuming("log"):
        await ingest.send([bought(n, at=tomorrow) for n in range(20)])
        await wait_until(lambda: letters.waiting() == 20)
    waiting = letters.letters(LetterQuery())
    lenient = replace(ingest, ingest=ingest.ingest.model_copy(update={"future_tolerance": 86_400.0}))
    async with producing(ingest) as producer:
        with pytest.raises(TopicUnavailable, match="0 of 20 letters were replayed"):
            await replay(letters, waiting, ForgetfulProducer(producer), "ops", no)
    assert letters.waiting() == 20
    assert await replayed(ingest, letters) == 20
    async with lenient.consuming():

        async def arrived() -> bool:
            return await remembered(lenient) == 20 and len(logged(lenient)) == 20

        await wait_until(arrived)
    assert logged(lenient) == sorted(f"e{n}" for n in range(20))
    assert letters.waiting() == 0


async def test_a_replay_that_is_killed_leaves_the_rest_waiting(ingest: Ingest) -> None:
    letters = MemoryDeadLetters()
    letters.dead_letter([refusal(offset) for offset in range(CHUNK + 20)])

    def killed(done: int) -> None:
        raise KeyboardInterrupt

    async with producing(ingest) as producer:
        with pytest.raises(KeyboardInterrupt):
            await replay(letters, letters.letters(LetterQuery()), producer, "ops", killed)
        assert sorted(one.offset for one in letters.letters(LetterQuery())) == list(range(CHUNK, CHUNK + 20))
        assert await replay(letters, letters.letters(LetterQuery()), producer, "ops", no) == 20
    assert letters.waiting() == 0


async def test_what_was_sent_twice_and_is_still_wrong_comes_back_as_one_letter(
    ingest: Ingest, letters: DeadLetters, wait_until: WaitUntil
) -> None:
    unknown = Outgoing("ada", wire.encode(bought("of tomorrow")), {"schema-version": b"99"})
    async with ingest.consuming("log"), producing(ingest) as producer:
        assert await producer.send([unknown]) == [None]
        await wait_until(lambda: letters.waiting() == 1)
        (first,) = letters.letters(LetterQuery(field="schema-version"))
        await replay(letters, [first], producer, "ops", no)
        await replay(letters, [first], producer, "ops", no)
        await ingest.send([bought("behind both")])
        await wait_until(lambda: logged(ingest) == ["ebehind both"] and letters.waiting() == 1)
    (back,) = letters.letters(ALL)
    assert (back.letter, back.times_seen, back.first_seen) == (first.letter, 2, first.first_seen)
    assert back.last_seen > first.last_seen


async def test_a_discarded_letter_is_not_replayed(ingest: Ingest, letters: DeadLetters) -> None:
    letters.dead_letter([refusal(0)])
    chosen = letters.letters(LetterQuery())
    letters.discard(chosen, "ops", "given up", NOW)
    assert await replayed(ingest, letters, chosen) == 0
    assert letters.letters(ALL)[0].status is Status.DISCARDED


async def test_the_letters_of_a_user_who_is_erased_are_discarded(ingest: Ingest) -> None:
    letters = MemoryDeadLetters()
    letters.dead_letter([refusal(0), refusal(9), refusal(1, partition="p-1"), refusal(2, key="bob")])
    erasure = PositionedMessage("p-0", 5, Erasure(event_id="x", user_id="ada", occurred_at=NOW))
    async with open_interaction_topic(dead_letter_topic(ingest.topic), ingest.store).producer() as producer:
        group = LogGroup(MemoryInteractionLog(), DeadLetterWriter(letters, producer, retention=86_400))
        await group.apply(Batch(erasures=[erasure], offsets={"p-0": 5}))
    left = letters.letters(LetterQuery())
    assert {(one.partition, one.offset) for one in left} == {("p-0", 9), ("p-0", 2)}


async def test_letters_are_kept_for_as_long_as_the_settings_say(ingest: Ingest) -> None:
    letters = MemoryDeadLetters()
    letters.dead_letter([replace(refusal(0), at=NOW - timedelta(days=31)), refusal(1)])
    async with open_interaction_topic(dead_letter_topic(ingest.topic), ingest.store).producer() as producer:
        await DeadLetterWriter(letters, producer, IngestSettings().dead_letters_kept).dead_letter([])
    assert [one.offset for one in letters.letters(ALL)] == [1]


@given(st.binary(max_size=400) | st.text(max_size=400).map(str.encode))
def test_whatever_bytes_come_are_applied_or_refused_and_never_raise(value: bytes) -> None:
    batch = decode_batch([Delivered("p-0", 0, "key", value, {}, 0)], NOW, IngestSettings())
    assert len(batch.rejected) == 1
    assert batch.offsets == {"p-0": 0}


def test_the_label_of_a_metric_is_one_of_the_fields_we_know() -> None:
    assert [field_label(field) for field in ("occurred_at", "properties.x.0", "message", "schema-version")] == [
        "occurred_at",
        "properties",
        "message",
        "schema-version",
    ]
    assert {field_label(field) for field in ("", "made up", "a.user_id", "kind of")} == {"other"}


def test_a_good_message_is_refused_by_nobody() -> None:
    batch = decode_batch([Delivered("p-0", 0, "ada", wire.encode(bought(1)), {}, 0)], NOW, IngestSettings())
    assert (len(batch.interactions), batch.rejected) == (1, [])
