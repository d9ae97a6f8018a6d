"""A disk that is really full: the spool drains all the same, refuses in time, and is in nobody's way."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import httpx
import pytest

from app.spool.file import SUFFIX
from app.spool.spool import Spool
from recsys.background import end
from recsys.errors import TopicUnavailable
from recsys.stores.topic import Outgoing
from tests.environment.waiting import wait_until, wait_until_sync
from tests.faults.test_spool import Market, opened_market

DISK_BYTES = 1 << 20
LIMIT = 16 << 20
REFUSED = TopicUnavailable("down")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for a megabyte."""
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(mount)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only an administrator can mount a small disk, and not in every container")
    try:
        yield mount
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def occupy(disk: Path) -> Path:
    """Another program fills what is free, to the last byte."""
    file = disk / "occupied"
    with file.open("wb", buffering=0) as occupied:
        for size in (4096, 1):
            try:
                while occupied.write(b"x" * size) == size:
                    pass
            except OSError:
                continue
    assert shutil.disk_usage(disk).free == 0
    return file


class Topic:
    """Takes what it gets while it is `up`, the key `stubborn` never."""

    def __init__(self) -> None:
        self.up = False
        self.stubborn = ""
        self.taken: list[int] = []

    async def send(self, messages: Sequence[Outgoing]) -> list[Exception | None]:
        await asyncio.sleep(0)
        outcomes: list[Exception | None] = []
        for message in messages:
            refused = not self.up or message.key == self.stubborn
            outcomes.append(REFUSED if refused else None)
            if not refused:
                self.taken.append(int(message.value))
        return outcomes


@asynccontextmanager
async def spooling(folder: Path, topic: Topic, reserve: int = 0) -> AsyncIterator[Spool]:
    spool = Spool(folder, LIMIT, reserve)
    running = asyncio.create_task(spool.run(topic.send))
    try:
        yield spool
    finally:
        await end(running)
        await spool.aclose()


def event(number: int, user: str = "u") -> Outgoing:
    return Outgoing(user, f"{number}".encode() + b" " * 300)


async def keep_until_refused(spool: Spool, first: int = 0) -> int:
    """Put single messages on it, numbered from `first`; the number of the first that was refused."""
    for number in count(first):
        try:
            await spool.keep([event(number)])
        except TopicUnavailable:
            return number
    raise AssertionError


async def test_a_spool_on_a_full_disk_sends_each_message_once_and_goes(small_disk: Path) -> None:
    topic = Topic()
    async with spooling(small_disk / "spool", topic) as spool:
        await spool.keep([event(number) for number in range(1000)])
        occupy(small_disk)
        number = await keep_until_refused(spool, 1000)
        topic.up = True
        await wait_until(lambda: spool.depth == 0)
        assert list((small_disk / "spool").glob("*")) == []
        assert topic.taken == list(range(number))
        assert not await spool.keep_behind([event(number)]), "what is new may go to the topic"


async def test_a_message_that_the_topic_refuses_waits_alone_while_others_are_passed_over(small_disk: Path) -> None:
    topic = Topic()
    topic.stubborn, topic.up = "late", True
    async with spooling(small_disk / "spool", topic) as spool:
        topic.up = False
        await spool.keep([event(number, "late" if number == 700 else "u") for number in range(1000)])
        occupy(small_disk)
        topic.up = True
        await wait_until(lambda: len(topic.taken) >= 999)
        await wait_until(lambda: spool.depth == 1)
        topic.stubborn = ""
        await wait_until(lambda: spool.depth == 0)
    assert topic.taken == [*range(700), *range(701, 1000), 700]


async def test_whoever_comes_while_a_full_spool_drains_waits_for_its_end(small_disk: Path) -> None:
    topic = Topic()
    async with spooling(small_disk / "spool", topic) as spool:
        await spool.keep([event(number) for number in range(1500)])
        occupy(small_disk)
        with pytest.raises(TopicUnavailable, match="full"):
            await spool.keep_behind([event(1500)] * 400)
        topic.up = True
        await wait_until(lambda: topic.taken)
        assert not await spool.keep_behind([event(1500)] * 400)
        assert topic.taken == list(range(1500))


async def test_a_process_that_starts_on_a_full_disk_sends_what_an_earlier_process_has_spooled(small_disk: Path) -> None:
    topic = Topic()
    async with spooling(small_disk / "spool", topic) as spool:
        await spool.keep([event(number) for number in range(1000)])
    occupy(small_disk)
    topic.up = True
    async with spooling(small_disk / "spool", topic):
        await wait_until(lambda: not list((small_disk / "spool").glob(f"*{SUFFIX}")))
    assert topic.taken == list(range(1000))


async def test_a_spool_leaves_the_reserve_of_the_disk_free(small_disk: Path) -> None:
    reserve = DISK_BYTES // 2
    async with spooling(small_disk / "spool", Topic(), reserve) as spool:
        number = await keep_until_refused(spool)
        assert number > 10
        assert shutil.disk_usage(small_disk).free > reserve // 2
        await wait_until(lambda: spool.holding.messages == number)


@pytest.fixture
def market(small_disk: Path, tmp_path: Path) -> Iterator[Market]:
    place = {"MILLIREC_SERVE__SPOOL": str(small_disk / "spool"), "MILLIREC_SERVE__SPOOL_LIMIT": str(LIMIT)}
    with opened_market(tmp_path, **place, MILLIREC_SERVE__SPOOL_RESERVE="65536") as opened:
        yield opened


def post(market: Market, batch: int) -> int:
    events = [
        {"event_id": f"disk-{batch}-{number}", "user_id": f"disk{number % 9}", "item_id": "i1", "type": "view"}
        for number in range(100)
    ]
    return httpx.post(f"{market.deployment.url}/events", json={"events": events}, timeout=10.0).status_code


def free_bytes(market: Market) -> float:
    """As the metrics have it."""
    text = httpx.get(f"{market.deployment.url}/metrics", timeout=10.0).text
    lines = [line for line in text.splitlines() if line.startswith("millirec_spool_free_bytes{")]
    return min(float(line.rpartition(" ")[2]) for line in lines)


@pytest.mark.slow
def test_events_on_a_full_disk_all_reach_the_log_and_new_ones_are_taken(market: Market, small_disk: Path) -> None:
    market.proxy.refuses()
    batch = 0
    while post(market, batch) == 202:
        batch += 1
    assert batch > 1
    occupy(small_disk)
    assert post(market, batch) == 503
    wait_until_sync(lambda: free_bytes(market) == 0)
    assert "spool-disk" in doctor(market)
    market.proxy.passes()
    wait_until_sync(lambda: post(market, batch) == 202, 20.0)
    wait_until_sync(lambda: market.spool["messages"] == 0, 20.0)
    wait_until_sync(lambda: len(market.logged("disk")) >= 100 * (batch + 1), 30.0)
    ids = market.logged("disk")["event_id"].to_list()
    assert sorted(ids) == sorted(f"disk-{place}-{number}" for place in range(batch + 1) for number in range(100))


def doctor(market: Market) -> str:
    """Return the doctor's findings of a deployment in which something is wrong."""
    with pytest.raises(AssertionError) as failed:
        market.deployment.run("doctor", "--json")
    return str(failed.value)


def test_a_command_that_finds_no_room_says_so(small_disk: Path) -> None:
    (small_disk / "schemas").mkdir()
    occupy(small_disk)
    command = [sys.executable, "-m", "millirec", "schemas", str(small_disk / "schemas")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "the disk is full" in done.stderr
    assert "Traceback" not in done.stderr


LOGGING = """
import logging, sys, structlog
from recsys.observability.telemetry import configure_logging
configure_logging()
for number in range(3):
    structlog.get_logger().error("no room", number=number)
    logging.getLogger("elsewhere").error("no room")
sys.stdout.write("alive")
"""


def test_a_log_line_that_finds_no_room_ends_nobody() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", LOGGING], stdout=subprocess.PIPE, stderr=full, check=False)
    assert done.stdout == b"alive"
