"""Measures the cost of a shadow to live answers: p99 with and without it, in turns, in one run.

python -m loadtests.shadow_bench prints what docs/rollouts.md quotes. It needs wrk (Debian, Ubuntu: apt install wrk).
"""

import tempfile
from pathlib import Path
from time import sleep
from typing import Annotated

import httpx
import numpy as np
import typer

from loadtests.load import Load, drive
from loadtests.rollback_bench import KEY, prepared
from loadtests.servers import MILLIREC, Server, served
from millirec.standalone import deployment

CONNECTIONS, CROWD = 16, 28
"""Fewer than are let in at a time."""


def main(
    items: int = 20_000,
    users: int = 2_000,
    seconds: Annotated[int, typer.Option(help="Length of each measurement.")] = 8,
    rounds: Annotated[int, typer.Option(help="Of one measurement without and one with the shadow.")] = 6,
    share: Annotated[float, typer.Option(help="The share of requests that the shadow is to answer too.")] = 0.1,
) -> None:
    """Measure at the capacity and at half of it."""
    with tempfile.TemporaryDirectory(prefix="millirec-shadow-") as folder:
        data = Path(folder)
        with deployment.embedded_store(data):
            environment = prepared(data, items, users)
            with (
                served(MILLIREC, environment, KEY) as server,
                httpx.Client(base_url=server.url, headers={"X-API-Key": KEY}, timeout=30.0) as client,
            ):
                capacity = load(server, users, seconds).requests_per_second
                print(f"capacity {capacity:,.0f} requests/s")
                half = round(1000 * CROWD / (capacity / 2))
                for name, connections, pause in (("at half of it", CROWD, half), ("at the capacity", CONNECTIONS, 0)):
                    compare(name, server, client, users, seconds, rounds, share, connections, pause)


def compare(
    name: str,
    server: Server,
    client: httpx.Client,
    users: int,
    seconds: int,
    rounds: int,
    share: float,
    connections: int,
    pause_ms: int,
) -> None:
    """Print requests per second and latencies with and without a shadow, as medians of the rounds."""
    without, beside, compared = [], [], 0
    for turn in range(rounds):
        if turn % 2 == 0:
            without.append(load(server, users, seconds, connections, pause_ms))
        body = {"version": "other", "reason": "bench", "share": share}
        client.post("/rollouts/shadow", json=body).raise_for_status()
        while not client.get("/rollouts").json()["shadow"]["loaded"]:
            sleep(0.05)
        beside.append(load(server, users, seconds, connections, pause_ms))
        compared += client.get("/rollouts").json()["shadow"]["compared"]
        client.post("/rollouts/shadow/stop", json={"reason": "bench"}).raise_for_status()
        if turn % 2:
            without.append(load(server, users, seconds, connections, pause_ms))
    said = [f"{name}: {compared / (rounds * seconds):,.0f} compared a second"]
    for figure in ("requests_per_second", "p50", "p99"):
        off, on = (float(np.median([getattr(run, figure) for run in runs])) for runs in (without, beside))
        said.append(f"{figure} {off:,.2f} without, {on:,.2f} with ({on / off:.3f})")
    said.append(f"{sum(run.failed for run in (*without, *beside))} failed")
    print("; ".join(said))


def load(server: Server, users: int, seconds: int, connections: int = CONNECTIONS, pause_ms: int = 0) -> Load:
    """The load of `seconds` on `server`; each connection pauses `pause_ms` on average."""
    return drive(
        server.url, users=users, key=KEY, connections=connections, seconds=seconds, placement="", pause_ms=pause_ms
    )


if __name__ == "__main__":
    typer.run(main)
