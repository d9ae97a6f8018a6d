"""How long after a rollback the last old answer comes: several workers under load learn of it by notification only.

python -m loadtests.rollback_bench prints what docs/versions.md quotes. No worker looks at the alias unasked while this
runs, and features are waited for, so that a busy machine changes no answer.
"""

import asyncio
import json
import os
import random
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from time import perf_counter, sleep, time
from typing import Annotated
from urllib.parse import urlsplit

import httpx
import numpy as np
import typer

from loadtests.population import Population, fill, publish, user_id
from loadtests.servers import MILLIREC, Server, served
from millirec.standalone import deployment
from recsys.settings import RegistrySettings
from recsys.stores.model_registry import open_model_registry

KEY = "rollback-bench-key-0123456789"
IN_A_ROW = 2_000
"""So many answers of one version, and none of another between them: every worker has swapped."""
COMPARED = 200


@dataclass(slots=True)
class Tally:
    """Answers and failures so far, and per version the position and the time of its last answer."""

    answered: int = 0
    failed: int = 0
    last: dict[str, tuple[int, float]] = field(default_factory=dict)

    def wait_for(self, version: str) -> None:
        """Wait until the last `IN_A_ROW` answers are all of `version`."""
        while True:
            others = max((position for name, (position, _) in self.last.items() if name != version), default=0)
            if version in self.last and self.answered - others >= IN_A_ROW:
                return
            sleep(0.01)


def main(
    items: int = 20_000,
    users: int = 2_000,
    workers: int = 4,
    connections: int = 64,
    rounds: Annotated[int, typer.Option(help="Promotes, each rolled back.")] = 10,
) -> None:
    """Promote and roll back, and print when the last answer of the old version came."""
    with tempfile.TemporaryDirectory(prefix="millirec-rollback-") as folder:
        data = Path(folder)
        with deployment.embedded_store(data):
            environment = prepared(data, items, users)
            command = [part.format(port="{port}", workers=workers) for part in MILLIREC]
            with (
                served(command, environment, KEY, workers) as server,
                httpx.Client(base_url=server.url, headers={"X-API-Key": KEY}, timeout=30.0) as client,
            ):
                while ready(server) < workers:
                    sleep(0.1)
                measure(server, client, environment, users, connections, rounds)


def prepared(data: Path, items: int, users: int) -> dict[str, str]:
    """The environment of a server with the live version `bench`, and `other` with the same items and other factors."""
    settings = deployment.environment(data)
    population = Population.generate(items, users, 64)
    publish(data, settings, population, ["bench"])
    fill(settings, population, lambda _: None)
    registry = open_model_registry(RegistrySettings(url=settings["MILLIREC_REGISTRY__URL"]))
    manifest, files = Population.generate(items, users, 64, seed=8).write_version(data / "built", "other")
    registry.publish(manifest, files)
    key = {"name": "bench", "sha256": sha256(KEY.encode()).hexdigest(), "scopes": ["recommend", "admin"]}
    own = {
        "SERVE__KEYS": json.dumps([key]),
        "SERVE__LOG_LEVEL": "error",
        "SERVE__POLL_INTERVAL": "3600",
        "SERVE__DEADLINE": "10",
        "STORE__READ_TIMEOUT": "5",
    }
    return {**os.environ, **settings, **{f"MILLIREC_{name}": value for name, value in own.items()}}


def measure(
    server: Server, client: httpx.Client, environment: dict[str, str], users: int, connections: int, rounds: int
) -> None:
    """Promote and roll back under load, and print when the last old answers came."""
    registry = open_model_registry(RegistrySettings(url=environment["MILLIREC_REGISTRY__URL"]))
    baseline = answers(client)
    since_call, since_move = [], []
    began = perf_counter()
    with asking(server.url, users, connections) as tally:
        tally.wait_for("bench")
        print("workers by their connections:", per_worker(server))
        for _ in range(rounds):
            client.post("/versions/other/promote", json={"reason": "bench"}).raise_for_status()
            tally.wait_for("other")
            called = time()
            client.post("/versions/rollback", json={"reason": "bench"}).raise_for_status()
            tally.wait_for("bench")
            last = tally.last["other"][1]
            since_call.append(last - called)
            since_move.append(last - registry.history("live")[-1].moved_at.timestamp())
    rate = tally.answered / (perf_counter() - began)
    print(f"{tally.answered:,} answers, {rate:,.0f} a second, {tally.failed} failed")
    for event, values in (("the call", since_call), ("the alias moved", since_move)):
        median, maximum = np.median(values), max(values)
        print(f"last old answer after {event}: median {median:.3f} s, at most {maximum:.3f} s, of {rounds} rollbacks")
    same = sum(first == second for first, second in zip(baseline, answers(client), strict=True))
    print(f"{same} of {len(baseline)} answers are what they were before, byte for byte but for their ids")


def answers(client: httpx.Client) -> list[str]:
    """The answers to the first `COMPARED` users, without their recommendation ids."""
    texts = []
    for row in range(COMPARED):
        response = client.get("/recommend", params={"user_id": user_id(row), "k": 10})
        response.raise_for_status()
        texts.append(response.text.replace(response.json()["recommendation_id"], ""))
    return texts


def ready(server: Server) -> int:
    """Workers that have a version open; the first of them makes the server answer."""
    workers = server.process.children(recursive=True)
    return sum(any(region.path.endswith("item_factors.npy") for region in worker.memory_maps()) for worker in workers)


def per_worker(server: Server) -> list[int]:
    """The number of open connections of each process that has any, sorted."""
    port = urlsplit(server.url).port
    counts = []
    for process in (server.process, *server.process.children(recursive=True)):
        open_here = [
            connection
            for connection in process.net_connections()
            if connection.laddr and connection.laddr.port == port and connection.raddr
        ]
        counts += [len(open_here)] if open_here else []
    return sorted(counts)


@contextmanager
def asking(url: str, users: int, connections: int) -> Iterator[Tally]:
    """GET /recommend for random users over keep-alive connections until the block ends."""
    tally, ended = Tally(), threading.Event()
    host, port = urlsplit(url).hostname, urlsplit(url).port

    async def ask_repeatedly() -> None:
        """Send requests over one connection, opened again after an error, until the end."""
        while not ended.is_set():
            reader, writer = await asyncio.open_connection(host, port)
            with suppress(OSError, asyncio.IncompleteReadError):
                while not ended.is_set():
                    path = f"/recommend?k=10&user_id={user_id(random.randrange(users))}"
                    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {KEY}\r\n\r\n".encode())
                    await note(reader, tally)
                writer.close()
                return
            tally.failed += 1
            writer.close()

    async def ask_on_all() -> None:
        """Open the connections one after the other, and ask over all of them."""
        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(ask_repeatedly())
                # While others are being answered: idle workers all leave new connections to the same one.
                await asyncio.sleep(0.02)

    thread = threading.Thread(target=lambda: asyncio.run(ask_on_all()))
    thread.start()
    try:
        yield tally
    finally:
        ended.set()
        thread.join()


async def note(reader: asyncio.StreamReader, tally: Tally) -> None:
    """Read one answer and count it in `tally`."""
    head = await reader.readuntil(b"\r\n\r\n")
    body = await reader.readexactly(int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]))
    tally.answered += 1
    if head[9:12] != b"200":
        tally.failed += 1
        return
    version = body.partition(b'"index_version":"')[2].partition(b'"')[0].decode()
    tally.last[version] = tally.answered, time()


if __name__ == "__main__":
    typer.run(main)
