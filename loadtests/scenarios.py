"""Scenarios of the benchmark: the contenders side by side, batches, overload, a swap under load."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter, sleep

import httpx

from loadtests.client import asking
from loadtests.load import Load, drive
from loadtests.servers import MILLIREC, Server, baseline, served

KEY = "mr_benchmark-key-of-one-run"
WARM_UP = 2
PLACEMENT = "discover"
BATCH = 100
CROWD = 512
"""Connections of the overload, each asking so seldom that all together ask for twice the capacity."""
PROBES = 4
CALM = 5.0
"""Seconds before and after a swap that count as normal."""


@dataclass(frozen=True, slots=True)
class Bench:
    """A filled store and a published version; `environment` for the servers."""

    environment: dict[str, str]
    users: int
    connections: int
    seconds: int
    index_megabytes: float

    def drive(self, server: Server, seconds: int, placement: str = PLACEMENT, batch: int = 0) -> Load:
        """The load of `seconds` on `server`, as `loadtests.load.drive` measures it."""
        return drive(
            server.url,
            users=self.users,
            key=KEY,
            connections=self.connections,
            seconds=seconds,
            placement=placement,
            batch=batch,
        )


@dataclass(frozen=True, slots=True)
class Measurement:
    """One contender: microseconds of processor per request, memory of all its processes."""

    load: Load
    cpu_us: float
    resident_mb: float
    private_mb: float
    degraded: float


def contenders(bench: Bench, workers: list[int]) -> dict[str, Callable[[], Measurement]]:
    """The measurement of each contender by name; each starts its server, warms it up and measures."""
    measures: dict[str, Callable[[], Measurement]] = {
        "empty": lambda: _measured(bench, baseline("loadtests.baseline.empty:app"), 1, ""),
        "lean": lambda: _measured(bench, baseline("loadtests.baseline.lean:app"), 1, ""),
    }
    for count in workers:
        name = "millirec" if count == 1 else f"millirec, {count} workers"
        measures[name] = lambda count=count: _measured(bench, MILLIREC, count, PLACEMENT)  # type: ignore[misc]
    return measures


def _measured(bench: Bench, command: list[str], workers: int, placement: str) -> Measurement:
    with served(command, bench.environment, KEY, workers) as server:
        bench.drive(server, WARM_UP, placement)
        start = server.usage()
        load = bench.drive(server, bench.seconds, placement)
        end = server.usage()
        degraded = _degraded(server) if command is MILLIREC else 0.0
    requests = load.requests_per_second * bench.seconds
    spent = (end.seconds - start.seconds) / requests * 1e6
    return Measurement(load, spent, end.resident, end.private, degraded)


def _degraded(server: Server) -> float:
    """Share of recommendations made without the user's features: they are cheaper, so they are reported."""
    counts = {"true": 0.0, "false": 0.0}
    for line in httpx.get(f"{server.url}/metrics").text.splitlines():
        if line.startswith("millirec_recommendations_total"):
            counts["true" if 'degraded="true"' in line else "false"] += float(line.rpartition(" ")[2])
    return counts["true"] / max(sum(counts.values()), 1.0)


def batch(bench: Bench, single: Load) -> dict[str, float]:
    """Users per second by /recommend/batch, and how many times that is of single calls."""
    with served(MILLIREC, bench.environment, KEY) as server:
        bench.drive(server, WARM_UP, batch=BATCH)
        load = bench.drive(server, bench.seconds, batch=BATCH)
        degraded = _degraded(server)
    users = load.requests_per_second * BATCH
    return {
        "batch: users/s": users,
        "x single": users / single.requests_per_second,
        "failed": float(load.failed),
        "degraded": degraded,
        "p99 ms": load.p99,
    }


def overload(bench: Bench) -> dict[str, float]:
    """Offer twice the capacity, while a few clients measure the latency of accepted requests."""
    with served(MILLIREC, bench.environment, KEY) as server:
        bench.drive(server, WARM_UP)
        with asking(server.url, users=bench.users, key=KEY, connections=PROBES, placement=PLACEMENT) as beside:
            normal = bench.drive(server, bench.seconds)
        pause_ms = round(1000 * CROWD / (2 * normal.requests_per_second))
        with asking(server.url, users=bench.users, key=KEY, connections=PROBES, placement=PLACEMENT) as probes:
            crowd = drive(
                server.url,
                users=bench.users,
                key=KEY,
                connections=CROWD,
                seconds=bench.seconds,
                placement=PLACEMENT,
                pause_ms=pause_ms,
            )
    return {
        "capacity/s": normal.requests_per_second,
        "p99 ms at capacity": beside.percentile(99),
        "overload: asked/s": crowd.requests_per_second,
        "turned away/s": crowd.failed / bench.seconds,
        "accepted p50 ms": probes.percentile(50),
        "accepted p99 ms": probes.percentile(99),
        "broken": float(probes.statuses.count(0)),
    }


def swap(bench: Bench) -> dict[str, float]:
    """Promote `other` while clients ask: failed requests, p99 before and during, seconds until the last old answer."""
    admin = {"X-API-Key": KEY}
    with (
        served(MILLIREC, bench.environment, KEY) as server,
        httpx.Client(base_url=server.url, headers=admin, timeout=30.0) as client,
        asking(server.url, users=bench.users, key=KEY, connections=bench.connections, placement=PLACEMENT) as record,
    ):
        _until(lambda: perf_counter() - record.began > CALM + 1)
        began = perf_counter() - record.began
        client.post("/versions/other/promote", json={"reason": "swap under load"}).raise_for_status()
        _until(lambda: client.get("/health/ready").json()["index_version"] == "other")
        ended = perf_counter() - record.began
        _until(lambda: perf_counter() - record.began > ended + CALM)
    return {
        "swap: seconds to load and swap": ended - began,
        "failed": float(record.failed()),
        "requests": float(len(record.statuses)),
        "p99 before ms": record.percentile(99, 1.0, began),
        "p99 during ms": record.percentile(99, began, ended + 1.0),
        "p99 after ms": record.percentile(99, ended + 1.0),
    }


def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        sleep(0.02)
