"""kill -9 and SIGTERM on real consumer processes: every event counts exactly once, in features and in the log."""

import asyncio
import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from ingest.stream.consumer import GroupLoop, _features_group, _log_group
from recsys.messages.interaction import Interaction, event_key
from recsys.stores.event_log import open_interaction_log
from recsys.stores.model_registry import open_model_registry
from recsys.stores.model_registry.aliases import promote
from recsys.stores.online import open_stores
from recsys.stores.topic import Delivered, TopicConsumer, open_interaction_topic
from tests.environment.versions import publish_small_version
from tests.environment.waiting import WaitUntil
from tests.ingest.running import Ingest

NOW = datetime.now(UTC).replace(microsecond=0)
USERS = 20
EVENTS = 3_000


def events(count: int = EVENTS) -> list[Interaction]:
    return [
        Interaction(
            event_id=f"e{n}",
            user_id=f"user {n % USERS}",
            item_id=f"i{n % 40}",
            type="view",
            occurred_at=NOW - timedelta(seconds=n),
        )
        for n in range(count)
    ]


async def run_until_sigterm(ingest: Ingest, groups: Sequence[str]) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await ingest.consume(groups, stop)


def consumer_process(ingest: Ingest, groups: Sequence[str]) -> None:
    asyncio.run(run_until_sigterm(ingest, groups))


@contextmanager
def process(ingest: Ingest, *groups: str) -> Iterator[BaseProcess]:
    consumer = multiprocessing.get_context("spawn").Process(target=consumer_process, args=(ingest, groups))
    consumer.start()
    try:
        yield consumer
    finally:
        if consumer.is_alive():
            consumer.kill()
        consumer.join(timeout=30)


async def remembered(ingest: Ingest) -> Counter[int]:
    """How often each event stands in the histories."""
    stores = open_stores(ingest.store)
    users = await stores.users.load([f"user {n}" for n in range(USERS)])
    await stores.aclose()
    return Counter(entry.event for user in users for entry in user.history)


def logged(ingest: Ingest) -> Counter[str]:
    return Counter(
        open_interaction_log(ingest.log).read().select("event_id").collect().get_column("event_id").to_list()
    )


async def assert_each_counted_once(ingest: Ingest, sent: Sequence[Interaction]) -> None:
    assert await remembered(ingest) == Counter(event_key(one.event_id) for one in sent)
    assert logged(ingest) == Counter(one.event_id for one in sent)


async def test_kill_9_mid_batch_and_restart_counts_every_event_exactly_once(
    ingest: Ingest, tmp_path: Path, wait_until: WaitUntil
) -> None:
    registry = open_model_registry(ingest.registry)
    publish_small_version(registry, tmp_path / "built", "first")
    promote(registry, "first", actor="test", reason="start")
    small = ingest.ingest.model_copy(update={"features_batch": 7, "log_batch": 150})
    ingest = replace(ingest, ingest=small)
    sent = events()
    await ingest.send(sent)
    killed_at = []
    for kill in range(3):
        goal = len(sent) * (kill + 1) // 5
        with process(ingest, "features", "log") as consumer:

            async def under_way(goal: int = goal) -> bool:
                return (await remembered(ingest)).total() >= goal

            await wait_until(under_way, 60)
            assert consumer.pid is not None
            os.kill(consumer.pid, signal.SIGKILL)
            consumer.join(timeout=30)
            assert consumer.exitcode == -signal.SIGKILL
        killed_at.append((await remembered(ingest)).total())
    assert killed_at[0] < len(sent), "the first consumer was killed in the middle"

    async def done() -> bool:
        return (await remembered(ingest)).total() >= len(sent) and logged(ingest).total() >= len(sent)

    async with ingest.consuming():
        await wait_until(done, 60)
    await assert_each_counted_once(ingest, sent)


async def test_sigterm_commits_what_is_in_hand_and_ends_in_time(ingest: Ingest, wait_until: WaitUntil) -> None:
    sent = events(500)
    with process(ingest, "features", "log") as consumer:
        await ingest.send(sent)

        async def begun() -> bool:
            return (await remembered(ingest)).total() > 0

        await wait_until(begun, 60)
        consumer.terminate()
        began = asyncio.get_running_loop().time()
        await asyncio.to_thread(consumer.join, 30)
        assert asyncio.get_running_loop().time() - began < 5
        assert consumer.exitcode == 0
    async with ingest.consuming():

        async def done() -> bool:
            return (await remembered(ingest)).total() >= 500 and logged(ingest).total() >= 500

        await wait_until(done)
    await assert_each_counted_once(ingest, sent)


class PowerCut(Exception):
    """The process ends here."""


class CutBeforeCommit:
    """A real consumer whose power fails once, between the effects of a batch and its commit."""

    def __init__(self, inner: TopicConsumer) -> None:
        self._inner = inner

    async def poll(self, limit: int, timeout: float) -> list[Delivered]:
        return await self._inner.poll(limit, timeout)

    async def commit(self, offsets: Mapping[str, int]) -> None:  # noqa: ARG002
        raise PowerCut

    async def lag(self) -> dict[str, int]:
        return await self._inner.lag()

    async def next_offsets(self) -> dict[str, int]:
        return await self._inner.next_offsets()


@pytest.mark.parametrize("name", ["features", "log"])
async def test_effects_without_a_commit_are_redelivered_and_change_nothing(
    ingest: Ingest, name: str, wait_until: WaitUntil
) -> None:
    sent = events(60)
    await ingest.send(sent)
    opened = (
        _features_group(ingest.store, ingest.registry, ingest.ingest)
        if name == "features"
        else _log_group(ingest.topic, ingest.store, ingest.log, ingest.ingest)
    )
    topic = open_interaction_topic(ingest.topic, ingest.store)
    stop = asyncio.Event()
    async with opened as group, topic.consumer(name) as consumer:
        with pytest.raises(PowerCut):
            await GroupLoop(group, CutBeforeCommit(consumer), ingest.ingest, 40, 0.0, stop).run()

    applied = (await remembered(ingest)).total() if name == "features" else logged(ingest).total()
    assert applied > 0

    async def done() -> bool:
        return (await remembered(ingest)).total() >= 60 and logged(ingest).total() >= 60

    async with ingest.consuming():
        await wait_until(done)
    await assert_each_counted_once(ingest, sent)


async def test_members_that_come_and_go_share_the_work_and_count_once(ingest: Ingest, wait_until: WaitUntil) -> None:
    ingest = replace(ingest, ingest=ingest.ingest.model_copy(update={"features_batch": 20, "log_batch": 100}))
    sent = events(1_000)

    async def done() -> bool:
        return (await remembered(ingest)).total() >= len(sent) and logged(ingest).total() >= len(sent)

    async with ingest.consuming():
        await ingest.send(sent[:500])
        async with ingest.consuming():
            await ingest.send(sent[500:])
        await wait_until(done, 30)
    await assert_each_counted_once(ingest, sent)
