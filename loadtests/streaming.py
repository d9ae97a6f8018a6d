"""Scenarios of the streaming benchmark: a consumer process at full speed, at a steady rate, and its parts."""

import asyncio
import gc
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from time import monotonic, perf_counter, process_time, sleep

import httpx
import numpy as np
import psutil
from prometheus_client.parser import text_string_to_metric_families
from threadpoolctl import threadpool_limits

from ingest.settings import IngestSettings
from ingest.stream.features import FeaturesGroup
from ingest.stream.flow import decode_batch
from ingest.stream.versions_in_service import VersionsInService
from loadtests.population import batched, item_id, user_id
from loadtests.servers import free_port
from millirec.console.service.exposition import interpolated_quantile
from recsys.messages import wire
from recsys.messages.interaction import Interaction, epoch_ms
from recsys.opening import fetch_recommender
from recsys.settings import RegistrySettings, StoreSettings, TopicSettings
from recsys.stores.model_registry import open_model_registry
from recsys.stores.online import open_stores
from recsys.stores.topic import Delivered, Outgoing, open_interaction_topic
from recsys.stores.users import UserStore
from recsys.users import HistoryEntry, UserFeatures

PATIENCE = 180.0
LOOK_EVERY = 0.1
"""Seconds between two looks at a consumer at work: by so much a speed may be understated."""
SEND_AT_ONCE = 5_000
TICK = 0.01
WARM_UP_BATCHES = 2
WARM_UP_SECONDS = 2
_numbers = count()


@dataclass(frozen=True, slots=True)
class Stream:
    """The stores of one benchmark, and the environment that leads a consumer process to them."""

    environment: Mapping[str, str]
    topic: TopicSettings
    store: StoreSettings
    registry: RegistrySettings
    items: int

    def anew(self) -> "Stream":
        """The same stream on a new topic."""
        topic = self.topic.model_copy(update={"name": f"bench-{next(_numbers)}"})
        environment = {**self.environment, "MILLIREC_TOPIC__NAME": topic.name}
        return Stream(environment, topic, self.store, self.registry, self.items)

    def messages(self, events: int, users: int, first: int = 0) -> Iterator[Outgoing]:
        """Views of random items by one user after the other, so that `users` in a row are distinct."""
        rows = np.random.default_rng(first).integers(self.items, size=events).tolist()
        for number, row in enumerate(rows, first):
            event = Interaction(
                event_id=f"{self.topic.name}-{number}",
                user_id=user_id(number % users),
                item_id=item_id(row),
                type="view",
                occurred_at=datetime.now(UTC),
            )
            yield Outgoing(event.user_id, wire.encode(event))


@dataclass(frozen=True, slots=True)
class Meter:
    """A consumer process, seen through its metrics."""

    url: str
    group: str
    process: psutil.Process

    def processor_seconds(self) -> float:
        """Processor time of the process so far, in seconds."""
        return float(sum(self.process.cpu_times()[:2]))

    def applied(self) -> float:
        """The number of events applied so far."""
        labels = {"group": self.group, "outcome": "applied"}
        return sum(value for _, own, value in self._samples("millirec_consumed_messages_total") if own == labels)

    def freshness(self) -> dict[float, float]:
        """The number of events that took effect, by their time limit in seconds."""
        samples = self._samples("millirec_freshness_seconds_bucket")
        return {float(labels["le"]): value for _, labels, value in samples if labels["group"] == self.group}

    def _samples(self, name: str) -> list[tuple[str, dict[str, str], float]]:
        families = text_string_to_metric_families(httpx.get(self.url).text)
        return [
            (sample.name, sample.labels, sample.value)
            for family in families
            for sample in family.samples
            if sample.name == name
        ]


@contextmanager
def consuming(stream: Stream, group: str) -> Iterator[Meter]:
    """One `millirec consume GROUP` process, from when it answers for its metrics."""
    port = free_port()
    command = [sys.executable, "-m", "millirec", "--log-level", "error", "consume", group, "--metrics-port", str(port)]
    process = subprocess.Popen(command, env=dict(stream.environment))
    meter = Meter(f"http://127.0.0.1:{port}/metrics", group, psutil.Process(process.pid))
    try:
        deadline = monotonic() + PATIENCE
        while monotonic() < deadline and process.poll() is None:
            try:
                meter.applied()
                break
            except httpx.TransportError:
                sleep(LOOK_EVERY)
        yield meter
    finally:
        process.terminate()
        process.wait(30)


@dataclass(frozen=True, slots=True)
class Speed:
    """Of one consumer process while more events wait for it; its own processor time, in microseconds."""

    events_per_second: float
    cpu_us_per_event: float


def throughput(stream: Stream, group: str, events: int, users: int) -> Speed:
    """The speed of one process of `group` on a backlog of `events`. Raises `RuntimeError` if it takes too long."""
    stream = stream.anew()
    asyncio.run(_produce(stream, events, users))
    samples: list[tuple[float, float, float]] = []
    with consuming(stream, group) as meter:
        deadline = monotonic() + PATIENCE
        while not samples or samples[-1][1] < events:
            if monotonic() > deadline:
                raise RuntimeError(
                    f"{group} applied {samples[-1][1] if samples else 0} of {events} events in {PATIENCE} s"
                )
            if applied := meter.applied():
                samples.append((perf_counter(), applied, meter.processor_seconds()))
            sleep(LOOK_EVERY)
    (began, first, start_cpu), (ended, last, end_cpu) = samples[0], samples[-1]
    if last == first:
        raise RuntimeError(f"{events} events are too few to measure {group}: all were applied at the first look")
    return Speed((last - first) / (ended - began), 1e6 * (end_cpu - start_cpu) / (last - first))


def freshness(stream: Stream, group: str, users: int, rate: int, seconds: int) -> dict[str, float]:
    """Milliseconds from an event's acknowledgement to its effect, at `rate` events a second."""
    stream = stream.anew()
    with consuming(stream, group) as meter:
        asyncio.run(_produce_steadily(stream, rate, WARM_UP_SECONDS, users))
        sleep(1.0)
        baseline = meter.freshness()
        achieved = asyncio.run(_produce_steadily(stream, rate, seconds, users, rate * WARM_UP_SECONDS))
        sleep(1.0)
        counts = meter.freshness()
    within = [(bound, counts[bound] - baseline.get(bound, 0.0)) for bound in sorted(counts)]
    quantiles = {f"p{percent:g}": 1000 * interpolated_quantile(within, percent / 100) for percent in (50, 95, 99)}
    return {"events_per_second": achieved, "events": within[-1][1], **quantiles}


def group_speed(stream: Stream, versions: list[str], users: int, history: int, batch: int) -> Speed:
    """The features group alone: decode, load, fold into each version, save; no topic. BLAS as `millirec` sets it."""
    with threadpool_limits(1, "blas"):
        return asyncio.run(_group_speed(stream, versions, users, history, batch))


async def _group_speed(stream: Stream, versions: list[str], users: int, history: int, batch: int) -> Speed:
    stores = open_stores(stream.store)
    try:
        await fill_histories(stream, stores.users, users, history)
        in_service = VersionsInService(stream.registry, stores.notifications, 60.0)
        registry, cache = open_model_registry(stream.registry), stream.registry.cache
        in_service.indexes = tuple(fetch_recommender(registry, version, cache).index for version in versions)
        group, settings = FeaturesGroup(stores, in_service, stream.store.history_length), IngestSettings()
        delivered = [
            Delivered("bench-0", offset, message.key, message.value, {}, 0)
            for offset, message in enumerate(stream.anew().messages(users, users))
        ]
        gc.collect()
        gc.freeze()
        times = []
        for messages in batched(delivered, batch):
            began, cpu_start = perf_counter(), process_time()
            await group.apply(decode_batch(messages, datetime.now(UTC), settings))
            times.append((perf_counter() - began, process_time() - cpu_start))
        wall, cpu = np.median(times[WARM_UP_BATCHES:], axis=0).tolist()
        return Speed(batch / wall, 1e6 * cpu / batch)
    finally:
        gc.unfreeze()
        await stores.aclose()


async def fill_histories(stream: Stream, store: UserStore, users: int, history: int) -> None:
    """Give every user exactly `history` views."""
    rows = np.random.default_rng(5).integers(stream.items, size=(users, history))
    at = epoch_ms(datetime(2026, 1, 1, tzinfo=UTC))
    for positions in batched(range(users), 1000):
        stored = await store.load([user_id(position) for position in positions])
        await store.save(
            [
                UserFeatures(
                    record.user_id,
                    tuple(
                        HistoryEntry(at + n, position * history + n, item_id(row), "view") for n, row in enumerate(own)
                    ),
                    revision=record.revision,
                )
                for record, position, own in zip(stored, positions, rows[positions].tolist(), strict=True)
            ]
        )


async def _produce(stream: Stream, events: int, users: int) -> None:
    async with open_interaction_topic(stream.topic, stream.store).producer() as producer:
        for messages in batched(stream.messages(events, users), SEND_AT_ONCE):
            for failure in await producer.send(messages):
                if failure is not None:
                    raise failure


async def _produce_steadily(stream: Stream, rate: int, seconds: int, users: int, first: int = 0) -> float:
    """Send each event in its own call, as the service does; the achieved rate in events per second."""
    async with open_interaction_topic(stream.topic, stream.store).producer() as producer:
        began = perf_counter()
        ticks = batched(stream.messages(rate * seconds, users, first), max(1, round(rate * TICK)))
        for tick, messages in enumerate(ticks):
            await asyncio.sleep(max(0.0, began + tick * TICK - perf_counter()))
            for (failure,) in await asyncio.gather(*(producer.send([message]) for message in messages)):
                if failure is not None:
                    raise failure
        return rate * seconds / (perf_counter() - began)


def noida(folder: Path) -> tuple[list[str], int]:
    """The command that starts a Kafka broker out of the development wheels, and the port it will listen on."""
    wheel = find_spec("noida_db")
    if wheel is None or wheel.origin is None:
        raise RuntimeError("the Kafka broker comes with the development set-up: make setup")
    port, program = free_port(), Path(wheel.origin).with_name("noida-db")
    address = ["--kafka-port", str(port), "--host", "127.0.0.1"]
    return [str(program), "start", "--only", "kafka", "--data-dir", str(folder / "noida"), *address], port
