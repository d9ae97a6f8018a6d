"""The capacity benchmark: starts everything itself, measures millirec beside its baselines in one run.

    make bench                                              10,000 items, one worker
    make bench ARGS="--items 10000 --items 100000 --workers 1 --workers 2 --batch --overload"
    make bench ARGS="--items 1000000 --swap --users 1000000"

Everything is on for millirec: API keys, metrics, seen-exclusion, availability, attribution ids. Numbers of one run are
comparable with each other; across runs and machines only the ratios are.
"""

import json
import os
import platform
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from loadtests import scenarios
from loadtests.load import Load
from loadtests.population import Population, fill, publish
from loadtests.scenarios import KEY, Bench, Measurement
from millirec.standalone import deployment

RESULTS = Path(__file__).parent / "results"
console = Console(width=None if os.isatty(1) else 140)


def main(
    items: Annotated[list[int], typer.Option(help="Catalogue sizes to measure.")] = [10_000],  # noqa: B006
    workers: Annotated[list[int], typer.Option(help="Worker processes to measure millirec with.")] = [1],  # noqa: B006
    users: Annotated[int, typer.Option(help="Users in the feature store.")] = 20_000,
    dimensions: int = 64,
    connections: int = 16,
    seconds: Annotated[int, typer.Option(help="Length of each measurement.")] = 8,
    rounds: Annotated[int, typer.Option(help="Rounds, taking turns; the best of each counts.")] = 3,
    batch: Annotated[bool, typer.Option(help="Also POST /recommend/batch with 100 users a call.")] = False,
    overload: Annotated[bool, typer.Option(help="Also four times the connections that are let in.")] = False,
    swap: Annotated[bool, typer.Option(help="Also promote a second version of the same size under load.")] = False,
) -> None:
    """Measure /recommend against an empty FastAPI route and a lean service, and store the table."""
    results = []
    for count in items:
        with tempfile.TemporaryDirectory(prefix="millirec-bench-") as folder:
            data = Path(folder)
            console.print(f"[bold]{count:,} items, {users:,} users, d={dimensions}[/bold]")
            population = Population.generate(count, users, dimensions)
            with deployment.embedded_store(data):
                bench = _prepared(data, population, users, connections, seconds, swap)
                results.append(_measure(bench, count, workers, rounds, batch=batch, overload=overload, swap=swap))
    _store(results, users=users, dimensions=dimensions, connections=connections, seconds=seconds)


def _prepared(data: Path, population: Population, users: int, connections: int, seconds: int, swap: bool) -> Bench:
    settings = deployment.environment(data)
    with console.status("building the index, publishing, filling the store") as status:
        index_bytes = publish(data, settings, population, ["bench", "other"] if swap else ["bench"])
        user_bytes = fill(
            settings, population, lambda done: status.update(f"filling the store: {done:,} of {users:,} users")
        )
    console.print(f"{user_bytes:,.0f} bytes of the store per user")
    key = {"name": "bench", "sha256": sha256(KEY.encode()).hexdigest(), "scopes": ["recommend", "admin"]}
    environment = {
        **os.environ,
        **settings,
        "MILLIREC_SERVE__KEYS": json.dumps([key]),
        "MILLIREC_SERVE__LOG_LEVEL": "error",
        "LEAN_DIRECTORY": str(data / "lean"),
        "LEAN_REDIS": settings["MILLIREC_STORE__URL"],
    }
    return Bench(environment, users, connections, seconds, index_bytes / 1e6)


def _measure(
    bench: Bench, items: int, workers: list[int], rounds: int, *, batch: bool, overload: bool, swap: bool
) -> dict[str, Any]:
    best: dict[str, Measurement] = {}
    for turn in range(rounds):
        for name, measure in scenarios.contenders(bench, workers).items():
            with console.status(f"round {turn + 1} of {rounds}: {name}"):
                measured = measure()
            if name not in best or measured.load.requests_per_second > best[name].load.requests_per_second:
                best[name] = measured
    _show(items, bench, best)
    result: dict[str, Any] = {
        "items": items,
        "index_mb": bench.index_megabytes,
        "measured": {name: asdict(contender) for name, contender in best.items()},
    }
    single = best["millirec"].load
    if batch:
        result["batch"] = _report(scenarios.batch(bench, single))
    if overload:
        result["overload"] = _report(scenarios.overload(bench))
    if swap:
        result["swap"] = _report(scenarios.swap(bench))
    return result


def _report(figures: dict[str, float]) -> dict[str, float]:
    console.print(", ".join(f"{name} {value:,.2f}" for name, value in figures.items()))
    return figures


def _show(items: int, bench: Bench, best: dict[str, Measurement]) -> None:
    generator = best["millirec"].load.generator
    table = Table(title=f"{items:,} items ({bench.index_megabytes:.0f} MB of files), driven by {generator}")
    heads = ("service", "requests/s", "x lean", "x empty", "p50 ms", "p95 ms", "p99 ms", "max ms", "failed", "degraded")
    for column in (*heads, "us CPU", "MB", "private MB"):
        table.add_column(column, justify="left" if column == "service" else "right")
    for name, contender in best.items():
        load: Load = contender.load
        ratios = [
            f"{load.requests_per_second / best[baseline].load.requests_per_second:.2f}"
            for baseline in ("lean", "empty")
        ]
        times = [f"{value:.2f}" for value in (load.p50, load.p95, load.p99, load.max)]
        rest = [str(load.failed), f"{contender.degraded:.2%}", f"{contender.cpu_us:.0f}"]
        memory = [f"{contender.resident_mb:.0f}", f"{contender.private_mb:.0f}"]
        table.add_row(name, f"{load.requests_per_second:,.0f}", *ratios, *times, *rest, *memory)
    console.print(table)


def _store(results: list[dict[str, Any]], **parameters: int) -> None:
    RESULTS.mkdir(exist_ok=True)
    measured_at = datetime.now(UTC)
    path = RESULTS / f"{measured_at:%Y%m%d-%H%M%S}.json"
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "machine": platform.machine()}
    document = {"measured_at": measured_at.isoformat(), "machine": machine, **parameters, "results": results}
    path.write_text(json.dumps(document, indent=2) + "\n")
    console.print(f"stored in {path}")


if __name__ == "__main__":
    typer.run(main)
