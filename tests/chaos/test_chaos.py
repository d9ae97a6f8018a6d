"""Everything fails, in an order drawn by lot; afterwards every event counts once and nothing is left behind.

`make chaos` runs the long form; a failing run prints its seed, which repeats the schedule.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.chaos import report
from tests.chaos.injecting import Chaos, Injection
from tests.chaos.invariants import Ledger, differing, folded, judged, keys_amiss, trending, written_twice
from tests.chaos.report import Figures
from tests.chaos.schedule import schedule
from tests.chaos.settled import caught_up, read_by_all, settled
from tests.chaos.traffic import selling
from tests.chaos.world import World, opened_world
from tests.environment.waiting import wait_until

SETTLING = 300.0


@dataclass(frozen=True)
class Size:
    """How much of everything; `longest` is the longest fault, in seconds."""

    events: int
    faults: int
    longest: float
    members: int
    users: int
    batch: int
    pause: float


SHORT = Size(events=2_000, faults=4, longest=1.0, members=1, users=50, batch=20, pause=0.1)


async def check(world: World, ledger: Ledger, began: float) -> tuple[float, int, int]:
    """Waits until it is quiet, then looks at everything. Seconds of the wait, messages on the topic, users."""

    async def quiet() -> bool:
        there = set(read_by_all(world))
        return world.spool_is_empty() and ledger.acknowledged <= there and await caught_up(world)

    await wait_until(quiet, SETTLING)
    waited = time.monotonic() - began
    world.end_consumers()
    found = await settled(world)
    verdict = judged(ledger, found.event_ids)
    assert verdict.lost == []
    assert verdict.duplicated == []
    assert verdict.invented == []
    assert written_twice(found.rows) == []
    expected = folded(found.rows, world.settings.history_length)
    assert differing(expected, found.users) == []
    assert found.trends == trending(found.rows)
    assert keys_amiss(found.lives, world.settings.prefix, world.topic.name, expected) == []
    return waited, len(found.rows), len(expected)


async def run(world: World, backend: str, seed: int, size: Size) -> Figures:
    drawn = schedule(seed, size.events, world.targets, size.faults, size.longest)
    began = time.monotonic()
    with selling(world.url, size.users, size.batch, size.pause) as traffic:
        done: Sequence[Injection] = Chaos(world, traffic).run(drawn, size.events, patience=1500.0)
    seconds, ledger = time.monotonic() - began, traffic.ledger
    waited, messages, users = await check(world, ledger, time.monotonic())
    return Figures(
        backend=backend,
        seed=seed,
        seconds=round(seconds, 1),
        sent=len(ledger.acknowledged | ledger.doubtful),
        acknowledged=len(ledger.acknowledged),
        doubtful=len(ledger.doubtful),
        doubtful_in_the_log=len(ledger.doubtful & set(read_by_all(world))),
        messages_on_the_topic=messages,
        users=users,
        faults=report.kinds(done),
        lost=0,
        duplicated=0,
        longest_stall=round(traffic.longest_stall(), 2),
        caught_up=round(waited, 2),
        recovery=report.recoveries(done),
    )


async def test_a_short_storm_loses_nothing_and_counts_nothing_twice(tmp_path: Path, seed: int) -> None:
    with opened_world("streams", tmp_path, SHORT.members) as world:
        print(await run(world, "streams", seed, SHORT))  # noqa: T201


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("backend", ["streams", "noida", "tansu", "real"])
async def test_a_long_storm_loses_nothing_and_counts_nothing_twice(
    backend: str, tmp_path: Path, seed: int, request: pytest.FixtureRequest
) -> None:
    if backend == "real" and "TEST_KAFKA_BOOTSTRAP" not in os.environ:
        pytest.skip("TEST_KAFKA_BOOTSTRAP is not set")
    options = request.config
    size = Size(
        events=options.getoption("--chaos-events", 20_000),
        faults=options.getoption("--chaos-faults", 25),
        longest=4.0,
        members=2,
        users=200,
        batch=50,
        pause=0.1,
    )
    with opened_world(backend, tmp_path, size.members) as world:
        figures = await run(world, backend, seed, size)
    print(figures)  # noqa: T201
    if folder := options.getoption("--chaos-report", None):
        (Path(folder) / f"{backend}.json").write_text(figures.as_json() + "\n")
