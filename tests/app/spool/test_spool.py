"""The spool: what the topic does not take waits on the disk, in order, whatever happens to the disk or the process."""

import asyncio
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.spool.file import SUFFIX, SpoolEntry, SpoolFile
from app.spool.folder import DAMAGED, unowned
from app.spool.spool import FULL_RETRY_AFTER, Spool
from recsys.background import end
from recsys.errors import TopicUnavailable
from recsys.stores.topic import Outgoing
from tests.environment.waiting import wait_until

LIMIT = 1 << 20
REFUSED = TopicUnavailable("down")


class Topic:
    """Takes what it is given, in order, while it is `up`; `lost` acknowledgements never arrive."""

    def __init__(self) -> None:
        self.up = False
        self.lost = 0
        self.taken: list[str] = []

    async def send(self, messages: Sequence[Outgoing]) -> list[Exception | None]:
        await asyncio.sleep(0)
        if not self.up:
            return [REFUSED] * len(messages)
        self.taken += [one.value.decode() for one in messages]
        if self.lost:
            self.lost -= 1
            return [REFUSED] * len(messages)
        return [None] * len(messages)


@asynccontextmanager
async def spooling(folder: Path, topic: Topic, limit: int = LIMIT) -> AsyncIterator[Spool]:
    spool = Spool(folder, limit)
    running = asyncio.create_task(spool.run(topic.send))
    try:
        yield spool
    finally:
        await end(running)
        await spool.aclose()


def event(number: int, user: str = "u", size: int = 0) -> Outgoing:
    return Outgoing(user, f"{number}".encode() + b" " * size, {"content-type": b"text"})


def files(folder: Path, ending: str = SUFFIX) -> list[Path]:
    return sorted(folder.glob(f"*{ending}"))


async def fill(folder: Path, count: int, size: int = 0) -> Path:
    """A file of so many messages that nobody holds."""
    async with spooling(folder, Topic()) as spool:
        await spool.keep([event(number, size=size) for number in range(count)])
    (path,) = files(folder)
    return path


async def filled(spool: Spool) -> tuple[int, TopicUnavailable]:
    """How many it took before it refused, and why it did."""
    for number in count():
        try:
            await spool.keep([event(number, size=500)])
        except TopicUnavailable as refusal:
            return number, refusal
    raise AssertionError


async def drained(folder: Path) -> list[int]:
    """The messages that a process gets out of a folder, which is then empty."""
    topic = Topic()
    topic.up = True
    async with spooling(folder, topic):
        await wait_until(lambda: not files(folder))
    return [int(one) for one in topic.taken]


async def test_what_waited_arrives_in_order_and_the_folder_is_empty_again(tmp_path: Path) -> None:
    topic = Topic()
    async with spooling(tmp_path, topic) as spool:
        for start in range(0, 1200, 60):
            await asyncio.gather(*(spool.keep([event(number)]) for number in range(start, start + 60)))
        assert spool.depth == 1200
        await wait_until(lambda: spool.holding.messages == 1200)
        assert spool.holding.bytes > 1200
        topic.up = True
        await wait_until(lambda: spool.depth == 0)
        assert files(tmp_path) == []
    assert topic.taken == [str(number) for number in range(1200)]


async def test_an_empty_spool_lets_messages_pass_and_touches_no_disk(tmp_path: Path) -> None:
    async with spooling(tmp_path / "spool", Topic()) as spool:
        assert not await spool.keep_behind([event(1)])
        assert files(tmp_path / "spool") == []
        await spool.keep([event(1)])
        assert await spool.keep_behind([event(2)])


async def test_a_spool_becomes_empty_though_messages_never_stop_coming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = Topic()
    passed: list[str] = []
    first = SpoolFile.first

    def slow(self: SpoolFile, limit: int) -> list[SpoolEntry]:
        time.sleep(0.005)  # in the spool's thread: meanwhile others put theirs behind
        return first(self, limit)

    monkeypatch.setattr(SpoolFile, "first", slow)

    async def client(user: int) -> None:
        for number in range(10_000):
            one = event(number, f"{user}")
            if not await spool.keep_behind([one]):
                passed.append(one.key)
                return
            await asyncio.sleep(0.001 * (user % 7))

    async with spooling(tmp_path, topic) as spool:
        await spool.keep([event(0)])
        clients = [asyncio.create_task(client(user)) for user in range(30)]
        await wait_until(lambda: spool.depth > 50)
        topic.up = True
        await asyncio.wait_for(asyncio.gather(*clients), 20)
    assert len(passed) == 30


async def test_requests_of_one_turn_share_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commits = 0
    append = SpoolFile.append

    def counted(self: SpoolFile, messages: Sequence[Outgoing]) -> None:
        nonlocal commits
        commits += 1
        append(self, messages)

    monkeypatch.setattr(SpoolFile, "append", counted)
    async with spooling(tmp_path, Topic()) as spool:
        await asyncio.gather(*(spool.keep([event(number)]) for number in range(100)))
    assert commits == 1


async def test_a_full_spool_refuses_and_keeps_all_it_acknowledged(tmp_path: Path) -> None:
    topic = Topic()
    async with spooling(tmp_path, topic, limit=1 << 18) as spool:
        kept, refusal = await filled(spool)
        assert "full" in str(refusal)
        assert refusal.retry_after == FULL_RETRY_AFTER
        assert kept > 100
        topic.up = True
        await wait_until(lambda: spool.depth == 0)
        await spool.keep([event(kept)])
        await wait_until(lambda: spool.depth == 0)
    assert [int(one) for one in topic.taken] == list(range(kept + 1))


async def test_a_full_disk_refuses_and_loses_nothing(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with spooling(tmp_path, Topic()) as spool:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
            kept, _ = await filled(spool)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert kept > 10
    assert await drained(tmp_path) == list(range(kept))


async def test_a_folder_that_cannot_be_written_refuses_and_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    topic = Topic()
    async with spooling(tmp_path / "file" / "spool", topic) as spool:
        with pytest.raises(TopicUnavailable):
            await spool.keep([event(1)])
        assert not await spool.keep_behind([event(1)])


async def test_an_acknowledgement_that_was_lost_sends_twice_and_never_drops(tmp_path: Path) -> None:
    topic = Topic()
    async with spooling(tmp_path, topic) as spool:
        await spool.keep([event(1), event(2)])
        topic.lost, topic.up = 1, True
        await wait_until(lambda: spool.depth == 0)
    assert topic.taken == ["1", "2", "1", "2"]


async def test_what_is_left_at_the_end_is_sent_by_the_next_process(tmp_path: Path) -> None:
    await fill(tmp_path, 700)
    assert await drained(tmp_path) == list(range(700))


OTHER = """
import sys
from pathlib import Path
from app.spool.folder import SpoolFolder
from recsys.stores.topic import Outgoing
folder = SpoolFolder(Path(sys.argv[1]), 1 << 20)
for number in range(20):
    folder.append([Outgoing("u", b"%d" % number)])
print(folder.count, flush=True)
sys.stdin.read()
"""


@contextmanager
def another_process(folder: Path) -> Iterator[None]:
    """It put 20 messages on its spool, and is killed at the end of the block."""
    command = [sys.executable, "-c", OTHER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"20\n"
        yield
        other.kill()


async def test_a_process_that_lives_keeps_its_files_and_those_of_a_killed_one_are_adopted(tmp_path: Path) -> None:
    topic = Topic()
    topic.up = True
    with another_process(tmp_path):
        assert unowned(tmp_path) == {}
        async with spooling(tmp_path, topic) as spool:
            await spool.keep([event(99)])
            await wait_until(lambda: spool.depth == 0)
        assert topic.taken == ["99"]
    assert list(unowned(tmp_path).values()) == [20]
    assert await drained(tmp_path) == list(range(20))


async def test_a_tail_that_was_torn_off_is_cut_and_the_rest_is_whole(tmp_path: Path) -> None:
    with another_process(tmp_path):
        pass
    (journal,) = files(tmp_path, "-wal")
    with journal.open("r+b") as torn:
        torn.truncate(journal.stat().st_size - 1000)
    assert await drained(tmp_path) == list(range(19))
    assert files(tmp_path, DAMAGED) == []


async def test_a_message_whose_bytes_have_changed_is_set_aside_and_holds_nobody_up(tmp_path: Path) -> None:
    path = await fill(tmp_path, 100)
    content = path.read_bytes()
    at = content.index(b"\x93\xa1u") + 2
    path.write_bytes(content[:at] + b"U" + content[at + 1 :])
    arrived = await drained(tmp_path)
    (aside,) = files(tmp_path, DAMAGED)
    assert b"U" in aside.read_bytes()
    assert len(arrived) == 99
    assert arrived == sorted(set(arrived))


@pytest.mark.parametrize("page", [1, 2, 4, 20, 40])
async def test_a_file_with_a_spoilt_page_gives_all_that_can_still_be_read(tmp_path: Path, page: int) -> None:
    path = await fill(tmp_path, 300, size=500)
    content = path.read_bytes()
    start = (page - 1) * 4096
    path.write_bytes(content[:start] + bytes(range(256)) * 16 + content[start + 4096 :])
    arrived = await drained(tmp_path)
    assert arrived == sorted(set(arrived))
    assert len(arrived) >= 280 or page < 3
    assert files(tmp_path, DAMAGED) != []


steps = st.lists(
    st.one_of(st.tuples(st.just("send"), st.integers(0, 2)), st.sampled_from([("up", 0), ("down", 0), ("lose", 0)])),
    max_size=40,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
def test_whatever_the_topic_does_each_user_sees_their_order_and_no_message_is_missing(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    async def run() -> tuple[list[str], list[str]]:
        topic, sent = Topic(), []
        async with spooling(tmp_path_factory.mktemp("spool"), topic) as spool:
            for number, (what, user) in enumerate(steps):
                topic.up = what == "up" or (topic.up and what != "down")
                topic.lost += what == "lose"
                if what == "send":
                    one = Outgoing(f"{user}", f"{user}-{number}".encode())
                    sent.append(one.value.decode())
                    if not await spool.keep_behind([one]) and (await topic.send([one]))[0]:
                        await spool.keep([one])
            topic.up = True
            await wait_until(lambda: spool.depth == 0)
        return sent, topic.taken

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.spool.spool.LONGEST_PAUSE", 0.01)
        sent, taken = asyncio.run(run())
    for user in range(3):
        mine = [one for one in sent if one.startswith(f"{user}-")]
        once = list(dict.fromkeys(one for one in taken if one.startswith(f"{user}-")))
        assert once == mine
