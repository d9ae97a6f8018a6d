"""The streaming benchmark: starts everything itself, measures one consumer process and what its speed hangs on.

    make bench-stream                                       both groups, freshness, the growth tables
    make bench-stream ARGS="--kafka --no-growth"            the same on a Kafka broker instead of Streams

All users are distinct: every event is a record loaded, folded in and saved. Numbers of one run are comparable with
each other; across runs and machines only the ratios are.
"""

import asyncio
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from loadtests import streaming
from loadtests.population import Population, publish
from loadtests.streaming import Stream
from millirec.standalone import deployment
from recsys.settings import KafkaSettings, RegistrySettings, StoreSettings, TopicBackend, TopicSettings
from recsys.stores.online import open_stores

RESULTS = Path(__file__).parent / "results"
GROWTH: dict[str, list[int]] = {"history": [10, 50, 200], "dimensions": [32, 64, 128], "versions": [1, 2, 3]}
GROWTH_USERS = 10_000
console = Console(width=None if os.isatty(1) else 140)


def main(
    events: Annotated[int, typer.Option(help="Events for the features group, each of a user of its own.")] = 60_000,
    log_events: Annotated[int, typer.Option(help="Events for the log group.")] = 400_000,
    items: int = 10_000,
    history: Annotated[int, typer.Option(help="Interactions each user had before.")] = 30,
    dimensions: int = 64,
    rate: Annotated[int, typer.Option(help="Events a second while freshness is measured.")] = 500,
    seconds: Annotated[int, typer.Option(help="How long freshness is measured.")] = 15,
    rounds: Annotated[int, typer.Option(help="Rounds; the best of each counts.")] = 3,
    batch: Annotated[int, typer.Option(help="Events of a batch in the growth tables.")] = 1000,
    growth: Annotated[bool, typer.Option(help="Also the growth tables.")] = True,
    kafka: Annotated[bool, typer.Option(help="On a Kafka broker (noida-db) instead of Streams.")] = False,
) -> None:
    """Measure throughput, freshness and growth of the consumer groups, and store the tables."""
    with tempfile.TemporaryDirectory(prefix="millirec-bench-") as folder, deployment.embedded_store(Path(folder)):
        with _prepared(Path(folder), items, dimensions, kafka) as stream:
            results: dict[str, Any] = {"backend": stream.topic.backend.value}
            with console.status("filling the store"):
                asyncio.run(_fill(stream, events, history))
            results["features"] = _best(stream, "features", events, rounds)
            results["log"] = _best(stream, "log", log_events, rounds)
            with console.status(f"{rate} events a second for {seconds} s"):
                results["freshness"] = streaming.freshness(stream, "features", events, rate, seconds)
            _show(results)
        if growth:
            results["growth"] = {name: _growth(Path(folder), name, items, batch) for name in GROWTH}
    _store(results, events=events, log_events=log_events, items=items, history=history, dimensions=dimensions)


@contextmanager
def _prepared(
    data: Path, items: int, dimensions: int, kafka: bool, versions: int = 1, name: str = "registry"
) -> Iterator[Stream]:
    settings = {**deployment.environment(data), "MILLIREC_REGISTRY__URL": str(data / name)}
    with console.status("building the index"):
        named = [f"bench-{number}" for number in range(versions)]
        publish(data / f"built-{name}", settings, Population.generate(items, 1000, dimensions), named)
    environment = {**os.environ, **settings}
    topic = TopicSettings()
    registry = RegistrySettings(url=str(data / name), cache=data / f"cache-{name}")
    store = StoreSettings.model_validate({"url": settings["MILLIREC_STORE__URL"], "timeout": 30.0})
    if not kafka:
        yield Stream(environment, topic, store, registry, items)
        return
    command, port = streaming.noida(data)
    broker = KafkaSettings(bootstrap=f"127.0.0.1:{port}")
    environment |= {"MILLIREC_TOPIC__BACKEND": "kafka", "MILLIREC_TOPIC__KAFKA__BOOTSTRAP": broker.bootstrap}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            topic = topic.model_copy(update={"backend": TopicBackend.KAFKA, "kafka": broker})
            yield Stream(environment, topic, store, registry, items)
        finally:
            process.kill()


async def _fill(stream: Stream, users: int, history: int) -> None:
    stores = open_stores(stream.store)
    await streaming.fill_histories(stream, stores.users, users, history)
    await stores.aclose()


def _best(stream: Stream, group: str, events: int, rounds: int) -> list[dict[str, float]]:
    """The speed of each round, best first."""
    speeds = []
    for turn in range(rounds):
        with console.status(f"{group}: {events:,} events, round {turn + 1} of {rounds}"):
            speeds.append(streaming.throughput(stream, group, events, events))
    return [asdict(speed) for speed in sorted(speeds, key=lambda entry: -entry.events_per_second)]


def _growth(data: Path, name: str, items: int, batch: int) -> dict[int, dict[str, float]]:
    """The speed of the features group alone by the value of one parameter; the others have usual values."""
    speeds = {}
    table = Table(title=f"features group alone, batches of {batch}, by {name}")
    table.add_column(name, justify="right")
    for column in ("events/s", "us of processor per event"):
        table.add_column(column, justify="right")
    for value in GROWTH[name]:
        usual = {"history": 50, "dimensions": 64, "versions": 1} | {name: value}
        published = f"growth-{name}-{value}"
        with _prepared(data, items, usual["dimensions"], False, usual["versions"], published) as stream:
            versions = [f"bench-{number}" for number in range(usual["versions"])]
            with console.status(f"{name} {value}"):
                speed = streaming.group_speed(stream, versions, GROWTH_USERS, usual["history"], batch)
        speeds[value] = asdict(speed)
        table.add_row(str(value), f"{speed.events_per_second:,.0f}", f"{speed.cpu_us_per_event:.0f}")
    console.print(table)
    return speeds


def _show(results: dict[str, Any]) -> None:
    table = Table(title=f"one consumer process on {results['backend']}, all users distinct")
    table.add_column("")
    table.add_column("best", justify="right")
    table.add_column("every round")
    for group in ("features", "log"):
        for name, unit in (("events_per_second", "events/s"), ("cpu_us_per_event", "us of processor per event")):
            every = [f"{speed[name]:,.0f}" for speed in results[group]]
            table.add_row(f"{group}: {unit}", every[0], ", ".join(every))
    fresh = results["freshness"]
    for name in ("p50", "p95", "p99"):
        table.add_row(f"freshness {name} at {fresh['events_per_second']:.0f} events/s", f"{fresh[name]:.1f} ms", "")
    console.print(table)


def _store(results: dict[str, Any], **parameters: int) -> None:
    RESULTS.mkdir(exist_ok=True)
    measured_at = datetime.now(UTC)
    path = RESULTS / f"{measured_at:%Y%m%d-%H%M%S}-stream.json"
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "machine": platform.machine()}
    document = {"measured_at": measured_at.isoformat(), "machine": machine, **parameters, "results": results}
    path.write_text(json.dumps(document, indent=2) + "\n")
    console.print(f"stored in {path}")


if __name__ == "__main__":
    typer.run(main)
