"""Outside producers feed the topic directly: the documented examples, kcat, wrong keys, old and new versions."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import polars as pl
import pytest
from prometheus_client import REGISTRY

from ingest.settings import IngestSettings
from recsys.messages import avro, protobuf, wire
from recsys.messages.envelope import AVRO, PROTOBUF
from recsys.settings import KafkaSettings, LogSettings, RegistrySettings, StoreSettings, TopicBackend, TopicSettings
from recsys.stores.dead_letters import open_dead_letters
from recsys.stores.dead_letters.protocol import LetterQuery
from recsys.stores.event_log import open_interaction_log
from recsys.stores.online import open_stores
from recsys.users import UserFeatures
from tests.environment.deployment import Deployment, deployed, free_port
from tests.environment.fixtures import with_versions
from tests.environment.waiting import WaitUntil, wait_until_sync
from tests.ingest.running import Ingest

EVENTS_MD = Path(__file__).parents[2] / "docs" / "events.md"
needs_kcat = pytest.mark.skipif(
    shutil.which("kcat") is None,
    reason="kcat is not installed (Debian, Ubuntu: apt install kcat; macOS: brew install kcat)",
)


def example(language: str, containing: str) -> str:
    """The documented example, as it stands there."""
    blocks = re.findall(rf"```{language}\n(.*?)```", EVENTS_MD.read_text("utf-8"), re.DOTALL)
    (found,) = [block for block in blocks if containing in block]
    return str(found)


@pytest.fixture
def topic(kafka_bootstrap: str) -> TopicSettings:
    return TopicSettings(
        backend=TopicBackend.KAFKA,
        name=f"outside-{os.getpid()}-{free_port()}",
        partitions=4,
        send_timeout=10,
        kafka=KafkaSettings(bootstrap=kafka_bootstrap),
    )


@pytest.fixture
def on_kafka(topic: TopicSettings, store_settings: StoreSettings, tmp_path: Path) -> Iterator[Deployment]:
    extra = {
        "MILLIREC_TOPIC__BACKEND": "kafka",
        "MILLIREC_TOPIC__NAME": topic.name,
        "MILLIREC_TOPIC__PARTITIONS": "4",
        "MILLIREC_TOPIC__KAFKA__BOOTSTRAP": topic.kafka.bootstrap,
        "MILLIREC_TOPIC__SEND_TIMEOUT": "10",
        "MILLIREC_INGEST__LOG_WAIT": "0.1",
    }
    with deployed(store_settings, tmp_path, extra) as made:
        yield with_versions(made)


@needs_kcat
def test_the_documented_examples_feed_the_topic_and_keep_a_users_order(
    on_kafka: Deployment, topic: TopicSettings
) -> None:
    on_kafka.serve()
    on_kafka.start("consume", "consume", "features", "log")
    places = {"http://127.0.0.1:8000": on_kafka.url, "localhost:9092": topic.kafka.bootstrap}

    def here(text: str) -> str:
        for written, actual in places.items():
            text = text.replace(written, actual)
        return text.replace("-t interactions", f"-t {topic.name}").replace('"interactions"', f'"{topic.name}"')

    run("bash", "-euo", "pipefail", "-c", here(example("sh", "/events --json")))
    run("bash", "-euo", "pipefail", "-c", here(example("sh", "kcat -P")))
    run(sys.executable, "-c", here(example("python", "AIOKafkaProducer")))

    def remembered() -> list[str]:
        answer = httpx.get(f"{on_kafka.url}/users/17850", timeout=10.0).json()
        return sorted(one["type"] for one in answer["interactions"])

    wait_until_sync(lambda: remembered() == ["click", "purchase", "view"], 60.0)
    log = open_interaction_log(LogSettings(path=str(on_kafka.folder / "log")))
    wait_until_sync(lambda: log.version() >= 0 and log.read().collect().height == 3, 30.0)
    rows = log.read().collect()
    assert set(rows["event_id"]) == {"doc-curl", "doc-kcat", "doc-python"}
    assert rows.filter(event_id="doc-python")["extra"].to_list() == ['{"campaign":"autumn"}']
    assert rows["partition"].n_unique() == 1, "one user's messages lie on one partition, whoever sent them"


@pytest.fixture
def ingest(topic: TopicSettings, store_settings: StoreSettings, tmp_path: Path) -> Ingest:
    return Ingest(
        topic=topic,
        store=store_settings,
        log=LogSettings(path=str(tmp_path / "log")),
        registry=RegistrySettings(url=str(tmp_path / "registry"), cache=tmp_path / "cache"),
        ingest=IngestSettings(log_wait=0.1, refresh=0.5, rejected=tmp_path / "rejected"),
    )


def event(number: int, user: str = "ada", **fields: Any) -> dict[str, Any]:
    return {
        "kind": "interaction",
        "event_id": f"e{number}",
        "user_id": user,
        "item_id": f"i{number}",
        "type": "view",
        "occurred_at": f"2026-06-01T12:00:{number:02}Z",
        **fields,
    }


def lines(events: list[dict[str, Any]], key: str = "") -> bytes:
    """As kcat reads them, each with its key before a tab where there is one."""
    encoded = [msgspec.json.encode(one) for one in events]
    return b"".join(f"{key}\t".encode() * bool(key) + one + b"\n" for one in encoded)


async def kcat(ingest: Ingest, *arguments: str, given: bytes = b"") -> None:
    partitioner = ("-X", "topic.partitioner=murmur2_random")
    command = ("kcat", "-P", "-b", ingest.topic.kafka.bootstrap, "-t", ingest.topic.name, *partitioner, *arguments)
    await asyncio.to_thread(run, *command, given=given)


def run(*command: str, given: bytes = b"") -> None:
    done = subprocess.run(command, input=given, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()


async def features_of(ingest: Ingest, user: str) -> UserFeatures:
    stores = open_stores(ingest.store)
    try:
        return (await stores.users.load([user]))[0]
    finally:
        await stores.aclose()


def rows_of(ingest: Ingest, user: str) -> pl.DataFrame:
    log = open_interaction_log(ingest.log)
    return log.read().filter(pl.col("user_id") == user).collect()


def miskeyed(group: str) -> float:
    return REGISTRY.get_sample_value("millirec_miskeyed_messages_total", {"group": group}) or 0.0


@needs_kcat
async def test_under_wrong_keys_nothing_is_lost_and_nothing_counts_twice(ingest: Ingest, wait_until: WaitUntil) -> None:
    await ingest.send([])  # makes the topic
    first, second = [event(n) for n in range(20)], [event(n) for n in range(20, 40)]
    before = miskeyed("log"), miskeyed("features")
    async with ingest.consuming():
        await kcat(ingest, "-K", "\\t", given=lines(first, "ada"))
        await kcat(ingest, given=lines(first))
        await kcat(ingest, "-K", "\\t", given=lines(second, "somebody else"))
        await wait_until(lambda: (miskeyed("log"), miskeyed("features")) == (before[0] + 40, before[1] + 40), 60.0)
    history = (await features_of(ingest, "ada")).history
    expected = [f"i{number}" for number in range(40)]
    assert [entry.item_id for entry in history] == expected, "each once, in the order in which it happened"
    assert sorted(rows_of(ingest, "ada")["item_id"]) == sorted(expected)


@needs_kcat
async def test_an_erasure_holds_for_what_happened_before_it_under_whatever_key(
    ingest: Ingest, wait_until: WaitUntil
) -> None:
    await ingest.send([])
    erasure = {"kind": "erasure", "event_id": "x", "user_id": "ada", "occurred_at": "2026-06-01T12:00:30Z"}
    async with ingest.consuming("log"):
        await kcat(ingest, "-K", "\\t", given=lines([event(1), erasure], "ada"))
        await kcat(ingest, "-K", "\\t", given=lines([event(20), event(40)], "somebody else"))
        await wait_until(lambda: rows_of(ingest, "ada")["event_id"].to_list() == ["e40"], 60.0)


@needs_kcat
async def test_every_version_and_format_is_read_and_the_rest_waits_as_dead_letters(
    ingest: Ingest, wait_until: WaitUntil, tmp_path: Path
) -> None:
    await ingest.send([])
    message = wire.message_of(event(3))
    files = {AVRO: avro.encode(message), PROTOBUF: protobuf.encode(wire.message_of(event(4)))}
    async with ingest.consuming():
        tracker = {"eventId": "e1", "userId": "ada", "itemId": "i1", "eventType": "view", "timestamp": 1780315201}
        await kcat(ingest, "-k", "ada", given=lines([tracker]))
        await kcat(ingest, "-k", "ada", "-H", "schema-version=2", given=lines([event(2, page="/lamps")]))
        for content_type, value in files.items():
            (path := tmp_path / "message").write_bytes(value)
            await kcat(ingest, "-k", "ada", "-H", f"content-type={content_type}", "-H", "schema-version=2", str(path))
        await kcat(ingest, "-k", "ada", "-H", "schema-version=3", given=lines([event(5)]))
        await kcat(ingest, "-k", "ada", "-H", "content-type=text/csv", given=b"ada,i6,view\n")
        await kcat(ingest, "-k", "ada", given=b"[" * 40_000)
        await kcat(ingest, "-k", "ada", given=lines([event(7)]))
        letters = open_dead_letters(ingest.log)
        await wait_until(lambda: len(letters.letters(LetterQuery())) == 3, 60.0)
        await wait_until(lambda: rows_of(ingest, "ada").height == 5, 60.0)

        async def remembered() -> bool:
            return len((await features_of(ingest, "ada")).history) == 5

        await wait_until(remembered, 60.0)
    waiting = letters.letters(LetterQuery())
    assert sorted(letter.field for letter in waiting) == ["content-type", "message", "schema-version"]
    newer = next(letter for letter in waiting if letter.field == "schema-version")
    assert "upgrade, then replay" in newer.reason
    assert letters.content([newer])[newer.letter].headers["schema-version"] == b"3"
    rows = rows_of(ingest, "ada").sort("occurred_at")
    assert rows["event_id"].to_list() == ["e1", "e2", "e3", "e4", "e7"]
    assert rows["extra"].to_list() == [None, '{"page":"/lamps"}', None, None, None]
