"""A member that slept past its time between reading and writing: what its successor wrote stands."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from recsys.messages import wire
from recsys.messages.interaction import Interaction
from recsys.settings import LogSettings
from recsys.stores.event_log import open_interaction_log
from recsys.stores.online import open_stores
from recsys.stores.topic import Outgoing
from tests.chaos.invariants import folded, trending
from tests.chaos.settled import positioned
from tests.contracts.interaction_topic import zombie
from tests.contracts.interaction_topic.conftest import Bench
from tests.contracts.interaction_topic.reading import put
from tests.contracts.interaction_topic.reading import take as take_all

USERS = 10
NOW = datetime.now(UTC).replace(microsecond=0)


def events(count: int, start: int = 0) -> list[Outgoing]:
    """Every seventh repeats the one before."""
    numbers = [number - 1 if number % 7 == 6 else number for number in range(start, start + count)]
    made = [
        Interaction(
            event_id=f"e{number}",
            user_id=f"user-{number % USERS}",
            item_id=f"i{number % 5}",
            type="click",
            occurred_at=NOW - timedelta(seconds=number),
        )
        for number in numbers
    ]
    return [Outgoing(one.user_id, wire.encode(one)) for one in made]


@asynccontextmanager
async def sleeper(bench: Bench, log: Path, count: int) -> AsyncIterator[asyncio.subprocess.Process]:
    root, pipe = Path(__file__).parents[3], asyncio.subprocess.PIPE
    settings = [bench.settings().model_dump_json(), bench.store.url.get_secret_value(), bench.store.prefix]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, zombie.__file__, *settings, str(log), str(count)),
        stdin=pipe,
        stdout=pipe,
        cwd=root,
        env={"PYTHONPATH": str(root)},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        assert process.stdin
        process.stdin.close()


async def says(process: asyncio.subprocess.Process, word: bytes) -> bool:
    assert process.stdout
    async with asyncio.timeout(60):
        while line := await process.stdout.readline():
            if line.strip() == word:
                return True
    return False


@pytest.mark.parametrize("bench", ["redis", "kafka-tansu", "kafka-real"], indirect=True)  # noida-db evicts nobody
async def test_a_zombie_writes_nothing_over_its_successor(bench: Bench, tmp_path: Path) -> None:
    topic = bench.topic()
    log = open_interaction_log(LogSettings(path=str(tmp_path)))
    users = [f"user-{number}" for number in range(USERS)]
    await put(topic, events(100))
    async with aclosing(open_stores(bench.store)) as stores:
        async with sleeper(bench, tmp_path, 60) as process:
            assert await says(process, b"read")
            process.send_signal(signal.SIGSTOP)
            await put(topic, events(50, start=100))
            async with topic.consumer("features") as heir:
                await zombie.apply(heir, await take_all(heir, 150), stores, tmp_path)
                before, version = await stores.users.load(users), log.version()
                assert process.stdin
                process.stdin.write(b"go\n")
                process.send_signal(signal.SIGCONT)
                assert await says(process, b"written")
            assert await stores.users.load(users) == before
            assert log.version() == version
        rows = positioned(tmp_path)
        wanted = folded(rows, 200)
        assert len(rows) == 150
        assert [(one.history, one.offsets) for one in before] == [
            (wanted[one].history, wanted[one].offsets) for one in users
        ]
        assert await stores.trends.read(list(trending(rows))) == trending(rows)
