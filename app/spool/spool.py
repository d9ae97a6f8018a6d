"""Spool: keeps messages on this machine's disk while the topic does not take them, and sends them on in order.

At least once: a message is removed only after the topic has acknowledged it, so that a crash in between, or an
acknowledgement that was lost, sends it twice. Consumers recognise the event id.
"""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from random import uniform
from time import monotonic
from typing import TypeVar

import structlog

from app.metrics import SPOOL_BYTES, SPOOL_FREE, SPOOL_MESSAGES, SPOOL_OLDEST, SPOOL_REFUSED, SPOOL_REPLAYED, SPOOLED
from app.spool.file import is_full
from app.spool.folder import Holding, SpoolFolder, free_bytes
from recsys.errors import TopicUnavailable
from recsys.stores.topic import Outgoing

log = structlog.get_logger()
T = TypeVar("T")
Send = Callable[[Sequence[Outgoing]], Awaitable[list[Exception | None]]]

BATCH = 500
COMMIT = 2000
"""Messages after which a transaction takes in no further request."""
PATIENCE = 5.0
"""Seconds that a request waits for the disk."""
FULL_RETRY_AFTER = 5.0
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 2.0
"""Between two attempts at a topic that does not answer; a random share of up to half is taken off."""
LOOK_ROUND = 5.0
"""Seconds between looks for files that another process left behind."""


class SpoolFull(TopicUnavailable):
    """The disk, or the part of it that the spool may use, is full."""


class Spool:
    """The spool of one worker process; one thread does all work on the disk."""

    def __init__(self, folder: Path, limit: int, reserve: int = 0) -> None:
        self._place = folder
        self._folder = SpoolFolder(folder, limit, reserve)
        self._thread = ThreadPoolExecutor(1, "spool")
        self._group: deque[tuple[Sequence[Outgoing], asyncio.Future[None]]] = deque()
        self._committing: asyncio.Task[None] | None = None
        self._written = self._unwritten = 0
        self._door: asyncio.Future[None] | None = None
        """Closed while the last messages are being sent; the future is done when it opens."""
        self._answering = False
        self._attempted = asyncio.Event()
        """A batch was sent, or was to be."""
        self._filled = asyncio.Event()
        self.holding = Holding()
        """As of the last look."""

    @property
    def depth(self) -> int:
        """Messages on the disk or on their way there."""
        return self._written + self._unwritten

    @property
    def idle(self) -> bool:
        """Whether the spool is empty and sends nothing to the topic."""
        return not self.depth and self._door is None

    async def keep_behind(self, messages: Sequence[Outgoing]) -> bool:
        """Append `messages` if the spool holds any; return False if it is empty: then they may go to the topic.

        So an empty spool costs nothing, and a filled one keeps the order of each user. While its last messages are
        being sent, new ones wait for the outcome: under steady load it would never become empty otherwise. They also
        wait if the spool is full while the topic accepts its messages.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._keep_behind(messages)
        except TimeoutError as error:
            raise _too_slow(len(messages)) from error

    async def _keep_behind(self, messages: Sequence[Outgoing]) -> bool:
        while True:
            while self._door is not None:
                await asyncio.shield(self._door)
            if not self.depth:
                return False
            try:
                await self.keep(messages)
            except SpoolFull:
                if not self._answering:
                    raise
            else:
                return True
            self._attempted.clear()
            await self._attempted.wait()

    async def keep(self, messages: Sequence[Outgoing]) -> None:
        """Write `messages` to the disk before returning. Raises `TopicUnavailable` if it is full or fails."""
        written = asyncio.get_running_loop().create_future()
        self._group.append((messages, written))
        self._unwritten += len(messages)
        if self._committing is None or self._committing.done():
            self._committing = asyncio.create_task(self._commit())
        try:
            async with asyncio.timeout(PATIENCE):
                await written
        except TimeoutError as error:
            raise _too_slow(len(messages)) from error

    async def _commit(self) -> None:
        """Write waiting messages, those of one turn of the loop or of the last write in one transaction with one fsync.

        A transaction takes about `COMMIT` messages, so that the first ones do not wait long.
        """
        while self._group:
            messages: list[Outgoing] = []
            group = []
            while self._group and len(messages) < COMMIT:
                group.append(self._group.popleft())
                messages += group[-1][0]
            try:
                await self._on_disk(self._folder.append, messages)
                refusal = None
                SPOOLED.inc(len(messages))
            except (sqlite3.Error, OSError) as error:
                refusal = _refusal(error, len(messages))
            self._unwritten -= len(messages)
            for _, written in group:
                if not written.done():
                    written.set_result(None) if refusal is None else written.set_exception(refusal)
            await self._look()
        self._filled.set()

    async def run(self, send: Send) -> None:
        """Send the messages, oldest first, and adopt the files of processes that ended, until cancelled."""
        pause, look_again = 0.0, 0.0
        while True:
            progress = False
            try:
                if monotonic() >= look_again:
                    look_again = monotonic() + LOOK_ROUND
                    await self._on_disk(self._folder.adopt)
                progress = await self._replay(send)
            except (sqlite3.Error, OSError) as error:
                log.error("the spool cannot be read", error=str(error))
            finally:
                if not (progress and self.depth):
                    self._open_door()
                self._attempted.set()
            await self._look()
            pause = 0.0 if progress else min(LONGEST_PAUSE, max(FIRST_PAUSE, 2 * pause))
            if self.depth:
                await asyncio.sleep(pause * uniform(0.5, 1.0))  # noqa: S311  # no secret
                continue
            self._filled.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_ROUND):
                    await self._filled.wait()

    async def _replay(self, send: Send) -> bool:
        """Send one batch; return whether to go on at once."""
        if self._answering and self.depth <= BATCH and self._door is None:
            self._door = asyncio.get_running_loop().create_future()
        batch = await self._on_disk(self._folder.first, BATCH)
        if not batch:
            return True
        results = await send([entry.message for entry in batch if entry.message is not None])
        numbers = [entry.number for entry, failure in zip(batch, results, strict=True) if failure is None]
        self._answering = len(numbers) == len(batch)
        if numbers:
            SPOOL_REPLAYED.inc(len(numbers))
            await self._on_disk(self._folder.remove, numbers)
        return self._answering

    def _open_door(self) -> None:
        if self._door is not None:
            self._door.set_result(None)
            self._door = None

    async def _look(self) -> None:
        try:
            self.holding = await self._on_disk(self._folder.holding)
            SPOOL_FREE.labels(str(self._place)).set(await self._on_disk(free_bytes, self._place))
        except (sqlite3.Error, OSError) as error:
            log.error("the spool cannot be looked at", error=str(error))
        SPOOL_MESSAGES.set(self.holding.messages)
        SPOOL_BYTES.set(self.holding.bytes)
        SPOOL_OLDEST.set(self.holding.age())

    async def _on_disk(self, call: Callable[..., T], *arguments: object) -> T:
        def call_and_count() -> T:
            """Call, and update the number of messages on the disk."""
            try:
                return call(*arguments)
            finally:
                self._written = self._folder.count

        return await asyncio.get_running_loop().run_in_executor(self._thread, call_and_count)

    async def aclose(self) -> None:
        """Close the files; messages not yet sent stay on the disk for the next process."""
        if self._committing is not None:
            await asyncio.wait([self._committing], timeout=PATIENCE)
        await self._on_disk(self._folder.close)
        self._thread.shutdown()


def _refusal(error: Exception, messages: int) -> TopicUnavailable:
    full = is_full(error)
    SPOOL_REFUSED.labels("full" if full else "error").inc(messages)
    if full:
        return SpoolFull("the topic is down, or was, and the spool is full", FULL_RETRY_AFTER)
    log.error("the spool cannot be written", error=str(error))
    return TopicUnavailable("the topic is down and the spool cannot be written")


def _too_slow(messages: int) -> TopicUnavailable:
    SPOOL_REFUSED.labels("slow").inc(messages)
    return TopicUnavailable("the topic is down, or was, and the spool takes its time")
