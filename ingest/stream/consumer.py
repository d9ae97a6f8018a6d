"""The consumer groups of the interaction topic: poll, apply, commit. Effects first, offsets last."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from time import monotonic, time
from typing import TypeVar

import structlog

from ingest.metrics import BATCH_SECONDS, FRESHNESS, MESSAGES, MISKEYED, RETRIES, metrics_server
from ingest.settings import IngestSettings
from ingest.stream.dead_letter import DeadLetterWriter, dead_letter_topic
from ingest.stream.features import FeaturesGroup
from ingest.stream.flow import Batch, Group, decode_batch
from ingest.stream.lag_report import LagReport
from ingest.stream.log import LogGroup
from ingest.stream.versions_in_service import VersionsInService
from recsys.background import end
from recsys.errors import InvalidInput, Unavailable
from recsys.observability.unreadable import unreadable_met
from recsys.retries import backoffs
from recsys.settings import LogSettings, RegistrySettings, StoreSettings, TopicSettings
from recsys.stores.dead_letters import open_dead_letters
from recsys.stores.event_log import open_interaction_log
from recsys.stores.heartbeats import Heartbeat, Reporter, process_name
from recsys.stores.online import open_stores
from recsys.stores.topic import Delivered, TopicConsumer, open_interaction_topic

logger = structlog.get_logger()

POLL = 2_000
"""Messages per poll at most: larger batches are gathered."""
POLL_TIMEOUT = 0.5
"""Seconds; also how soon an idle group notices `stop`."""
FIRST_BACKOFF = 0.1
MAX_BACKOFF = 5.0

T = TypeVar("T")


class _Stopped(Exception):
    """Asked to stop while waiting for a system that is not available."""


async def consume(
    groups: Sequence[str],
    *,
    topic: TopicSettings,
    store: StoreSettings,
    log: LogSettings,
    registry: RegistrySettings,
    ingest: IngestSettings,
    stop: asyncio.Event,
) -> None:
    """Run the named groups until `stop` is set; current batches are finished and committed first.

    Raises `InvalidInput` for an unknown group. A system that is down is waited for without limit.
    """
    opened: dict[str, tuple[Callable[[], AbstractAsyncContextManager[Group]], int, float]] = {
        "features": (partial(_features_group, store, registry, ingest), ingest.features_batch, 0.0),
        "log": (partial(_log_group, topic, store, log, ingest), ingest.log_batch, ingest.log_wait),
    }
    for name in groups:
        if name not in opened:
            raise InvalidInput("groups", f"{name!r} is none of {', '.join(opened)}")
    messages = open_interaction_topic(topic, store)

    async def run(name: str) -> None:
        """Run one group as a consumer of the topic until `stop` is set."""
        open_group, limit, wait = opened[name]
        async with open_group() as group, messages.consumer(name) as consumer:
            loop = GroupLoop(group, consumer, ingest, limit, wait, stop)
            async with _reporting(store, loop):
                await loop.run()

    async with metrics_server(ingest.metrics_host, ingest.metrics_port):
        try:
            async with asyncio.TaskGroup() as tasks:
                for name in dict.fromkeys(groups):
                    tasks.create_task(run(name), name=f"consume {name}")
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None


class GroupLoop:
    """One member of one group. Gathers up to `limit` messages, for `wait` seconds after the first."""

    def __init__(
        self,
        group: Group,
        consumer: TopicConsumer,
        settings: IngestSettings,
        limit: int,
        wait: float,
        stop: asyncio.Event,
    ) -> None:
        self._group = group
        self._consumer = consumer
        self._settings = settings
        self._limit = limit
        self._wait = wait
        self._stop = stop
        self._lag_report = LagReport(group, consumer)

    def heartbeat(self) -> Heartbeat:
        """Return the state of this process for the feature store: name, versions, lag and unreadable records."""
        name = self._group.name
        return Heartbeat(
            process_name(name),
            f"consume {name}",
            versions=tuple(self._group.versions),
            lag=self._lag_report.lag,
            unreadable=unreadable_met(),
        )

    async def run(self) -> None:
        """Poll, apply and commit until `stop` is set; while a full batch is applied, the next is polled and decoded."""
        logger.info("consuming", group=self._group.name)
        reporting = asyncio.create_task(self._lag_report.run())
        following = self._ahead()
        try:
            with suppress(_Stopped):
                while not self._stop.is_set():
                    messages, batch = await following
                    full = len(messages) >= self._limit
                    following = self._ahead() if full else following
                    if messages:
                        await self._finish(messages, batch)
                    following = following if full else self._ahead()
        finally:
            await end(following)
            await end(reporting)
        logger.info("stopped consuming", group=self._group.name)

    def _ahead(self) -> asyncio.Task[tuple[list[Delivered], Batch]]:
        following = asyncio.create_task(self._next())
        # Retrieve the error of a task that is no longer awaited, so that asyncio does not log it.
        following.add_done_callback(lambda done: done.cancelled() or done.exception())
        return following

    async def _next(self) -> tuple[list[Delivered], Batch]:
        messages = await self._gather()
        return messages, decode_batch(messages, datetime.now(UTC), self._settings)

    async def _finish(self, messages: Sequence[Delivered], batch: Batch) -> None:
        with BATCH_SECONDS.labels(self._group.name).time():
            repeated = await self._until_done(lambda: self._group.apply(batch))
        done_ms = time() * 1000
        await self._until_done(lambda: self._consumer.commit(batch.offsets))
        refused = len(batch.refusals)
        MESSAGES.labels(self._group.name, "rejected").inc(refused)
        MESSAGES.labels(self._group.name, "repeated").inc(repeated)
        MESSAGES.labels(self._group.name, "applied").inc(len(messages) - refused - repeated)
        MISKEYED.labels(self._group.name).inc(len(batch.miskeyed))
        freshness = FRESHNESS.labels(self._group.name)
        for message in messages:
            freshness.observe(max(0.0, done_ms - message.produced_at_ms) / 1000)

    async def _gather(self) -> list[Delivered]:
        """Poll until the batch is full or the wait is over; an offset delivered twice counts once."""
        gathered: dict[tuple[str, int], Delivered] = {}
        deadline = None
        while not self._stop.is_set():
            timeout = POLL_TIMEOUT if deadline is None else min(POLL_TIMEOUT, deadline - monotonic())
            limit = min(POLL, self._limit - len(gathered))
            if limit <= 0 or timeout <= 0:
                break
            polled = await self._until_done(partial(self._consumer.poll, limit, timeout))
            gathered.update({(message.partition, message.offset): message for message in polled})
            if deadline is None:
                if not polled or not self._wait:
                    break
                deadline = monotonic() + self._wait
        return list(gathered.values())

    async def _until_done(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat `call` while a system is unavailable. Raises `_Stopped`."""
        for delay in backoffs(FIRST_BACKOFF, MAX_BACKOFF):
            try:
                return await call()
            except Unavailable as error:
                system = type(error).__name__.removesuffix("Unavailable").lower()
                RETRIES.labels(self._group.name, system).inc()
                logger.warning("waiting", group=self._group.name, error=str(error), seconds=round(delay, 1))
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._stop.wait()
                    raise _Stopped
        raise AssertionError("back-offs have no end")


@asynccontextmanager
async def _reporting(settings: StoreSettings, loop: GroupLoop) -> AsyncIterator[None]:
    """Report heartbeats on a separate connection, so that calls that wait for the store do not delay them."""
    stores = open_stores(settings)
    reporting = asyncio.create_task(Reporter(stores.heartbeats, loop.heartbeat).run())
    try:
        yield
    finally:
        await end(reporting)
        await stores.aclose()


@asynccontextmanager
async def _features_group(
    store: StoreSettings, registry: RegistrySettings, ingest: IngestSettings
) -> AsyncIterator[FeaturesGroup]:
    stores = open_stores(store)
    versions = VersionsInService(registry, stores.notifications, ingest.refresh)
    try:
        await versions.refresh()
        following = asyncio.create_task(versions.run())
        try:
            yield FeaturesGroup(stores, versions, store.history_length)
        finally:
            await end(following)
    finally:
        await stores.aclose()


@asynccontextmanager
async def _log_group(
    topic: TopicSettings, store: StoreSettings, log: LogSettings, ingest: IngestSettings
) -> AsyncIterator[LogGroup]:
    async with open_interaction_topic(dead_letter_topic(topic), store).producer() as producer:
        dead_letters = DeadLetterWriter(open_dead_letters(log), producer, ingest.dead_letters_kept)
        yield LogGroup(open_interaction_log(log), dead_letters, ingest.compact_every)
