"""The capacity benchmark: starts everything itself, measures millirec beside its baselines in one run.

    make bench                           10k items
    make bench ARGS="--items 10000 --items 100000 --seconds 10"

Numbers of one run are comparable with each other; across runs and machines only the ratios are.
"""

import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import sha256
from itertools import islice
from pathlib import Path
from time import monotonic, sleep
from typing import Annotated, TypeVar

import httpx
import numpy as np
import psutil
import redis
import typer
from rich.console import Console
from rich.table import Table

from loadtests.load import Load, drive
from loadtests.population import Population, user_id
from millirec import standalone
from recsys.feature_store import open_feature_store
from recsys.index_registry import open_index_registry
from recsys.index_registry.aliases import promote
from recsys.settings import RegistrySettings, StoreSettings

KEY = "mr_benchmark-key-of-one-run"
VERSION = "bench"
RESULTS = Path(__file__).parent / "results"
T = TypeVar("T")
console = Console()


def main(
    items: Annotated[list[int], typer.Option(help="Catalogue sizes to measure.")] = [10_000],  # noqa: B006
    users: Annotated[int, typer.Option(help="Users in the feature store.")] = 20_000,
    dimensions: int = 64,
    connections: int = 16,
    seconds: Annotated[int, typer.Option(help="Length of each measurement.")] = 8,
    rounds: Annotated[int, typer.Option(help="Rounds, the order alternating; the best of each counts.")] = 3,
) -> None:
    """Measure /recommend against an empty FastAPI route and a lean service, and store the table."""
    measured = []
    for count in items:
        with tempfile.TemporaryDirectory(prefix="millirec-bench-") as folder:
            measured.append(_measure(Path(folder), count, users, dimensions, connections, seconds, rounds))
    _store(measured, users=users, dimensions=dimensions, connections=connections, seconds=seconds)


def _measure(
    data: Path, items: int, users: int, dimensions: int, connections: int, seconds: int, rounds: int
) -> dict[str, object]:
    console.print(f"[bold]{items:,} items, {users:,} users, d={dimensions}[/bold]: generating")
    population = Population.generate(items, users, dimensions)
    with standalone.embedded_store(data):
        settings = standalone.environment(data)
        _publish(data, settings, population)
        key = {"name": "bench", "sha256": sha256(KEY.encode()).hexdigest(), "scopes": ["recommend"]}
        environment = {
            **os.environ,
            **settings,
            "MILLIREC_SERVE__KEYS": json.dumps([key]),
            "MILLIREC_SERVE__LOG_LEVEL": "warning",
            "LEAN_DIRECTORY": str(data / "lean"),
            "LEAN_REDIS": settings["MILLIREC_STORE__URL"],
        }
        commands = {
            "empty": _uvicorn("loadtests.baseline.empty:app"),
            "lean": _uvicorn("loadtests.baseline.lean:app"),
            "millirec": [sys.executable, "-m", "millirec", "serve", "--port", "{port}"],
        }
        best: dict[str, Load] = {}
        memory: dict[str, float] = {}
        for _ in range(rounds):
            for name, command in commands.items():
                with _server(command, environment) as (url, process):
                    drive(url, users=users, key=KEY, connections=connections, seconds=2)
                    load = drive(url, users=users, key=KEY, connections=connections, seconds=seconds)
                    memory[name] = psutil.Process(process.pid).memory_info().rss / 1e6
                if name not in best or load.requests_per_second > best[name].requests_per_second:
                    best[name] = load
    _show(items, best, memory)
    return {"items": items, "memory_mb": memory, "loads": {name: asdict(load) for name, load in best.items()}}


def _publish(data: Path, settings: dict[str, str], population: Population) -> None:
    registry = open_index_registry(RegistrySettings(url=settings["MILLIREC_REGISTRY__URL"]))
    population.publish(registry, data / "built", VERSION)
    promote(registry, VERSION, actor="bench", reason="benchmark")
    population.write_lean(data / "lean")
    url = settings["MILLIREC_STORE__URL"]
    asyncio.run(_fill(StoreSettings(url=url), population))
    with redis.Redis.from_url(url) as client:
        for batch in batched(enumerate(population.users), 5000):
            client.mset({f"lean:{user_id(row)}": np.asarray(vector).tobytes() for row, vector in batch})


async def _fill(settings: StoreSettings, population: Population) -> None:
    store = open_feature_store(settings)
    try:
        for batch in batched(population.features(VERSION), 500):
            await store.save(batch)
    finally:
        await store.aclose()


def batched(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """`itertools.batched`, which Python 3.11 does not have."""
    remaining = iter(values)
    while batch := list(islice(remaining, size)):
        yield batch


def _uvicorn(application: str) -> list[str]:
    command = [sys.executable, "-m", "uvicorn", application, "--port", "{port}", "--loop", "uvloop"]
    return [*command, "--http", "httptools", "--no-access-log", "--log-level", "warning"]


@contextmanager
def _server(command: list[str], environment: dict[str, str]) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    port = _free_port()
    arguments = [part.format(port=port) for part in command]
    process = subprocess.Popen(arguments, env=environment, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(f"{url}/recommend?user_id=user-1", process)
        yield url, process
    finally:
        process.terminate()
        process.wait(30)


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = monotonic() + 60
    while monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server for {url} ended with {process.returncode}")
        try:
            if httpx.get(url, headers={"X-API-Key": KEY}).status_code == 200:
                return
        except httpx.TransportError:
            pass
        sleep(0.1)
    raise RuntimeError(f"{url} did not answer in a minute")


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _show(items: int, loads: dict[str, Load], memory: dict[str, float]) -> None:
    table = Table(title=f"{items:,} items, one worker, driven by {loads['millirec'].generator}")
    for column in (
        "service",
        "requests/s",
        "x lean",
        "x empty",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "max ms",
        "failed",
        "MB",
    ):
        table.add_column(column, justify="left" if column == "service" else "right")
    for name, one in loads.items():
        ratios = [f"{one.requests_per_second / loads[other].requests_per_second:.2f}" for other in ("lean", "empty")]
        times = [f"{value:.2f}" for value in (one.p50, one.p95, one.p99, one.max)]
        table.add_row(name, f"{one.requests_per_second:,.0f}", *ratios, *times, str(one.failed), f"{memory[name]:.0f}")
    console.print(table)


def _store(measured: list[dict[str, object]], **parameters: int) -> None:
    RESULTS.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    path = RESULTS / f"{now:%Y%m%d-%H%M%S}.json"
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "machine": platform.machine()}
    document = {"measured_at": now.isoformat(), "machine": machine, **parameters, "results": measured}
    path.write_text(json.dumps(document, indent=2) + "\n")
    console.print(f"stored in {path}")


if __name__ == "__main__":
    typer.run(main)
