"""Access to dead letters and import reports for operators: in threads, each call bounded in time."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from app.http.admission import Admission
from ingest.batch.checkpoint import ImportFolder
from ingest.batch.report import FileReport
from ingest.maintenance.replay import replay
from millirec.settings import Settings
from recsys.background import DeadlineRunner
from recsys.errors import LogUnavailable, NotFound, TopicUnavailable
from recsys.stores.dead_letters import DeadLetters, open_dead_letters
from recsys.stores.dead_letters.protocol import Content, DeadLetter, LetterQuery
from recsys.stores.topic import open_interaction_topic

T = TypeVar("T")
READ_SECONDS = 10.0
WRITE_SECONDS = 60.0
MAX_REPORTS = 20
MAX_CALLS = 8
"""Reads and decisions at a time."""


class LogAccess:
    """Operators' access to dead letters and import reports. Every call raises `LogUnavailable`, or `Overload`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._calls = DeadlineRunner()
        self._slots = Admission(MAX_CALLS)

    @cached_property
    def _dead_letters(self) -> DeadLetters:
        # Opened when first needed: the table engine takes memory that most replicas never use.
        return open_dead_letters(self._settings.log)

    def require_log(self) -> None:
        """Raises `NotFound` where the folder of the log does not exist on this machine."""
        path = self._settings.log.path
        if "://" not in path and not Path(path).is_dir():
            raise NotFound("interaction log, which is made when the first messages are consumed, at", path)

    async def letters(self, query: LetterQuery) -> list[DeadLetter]:
        """Return the dead letters of a query, those seen last first."""
        return await self._bounded(READ_SECONDS, lambda: self._dead_letters.letters(query))

    async def named(self, ids: Sequence[str]) -> list[DeadLetter]:
        """Return the letters with these whole ids. Raises `NotFound` naming the first that does not exist."""
        letters = {letter.letter: letter for letter in await self.letters(LetterQuery(None, ids=ids))}
        missing = next((name for name in ids if name not in letters), None)
        if missing is not None:
            raise NotFound("dead letter", missing)
        return [letters[name] for name in dict.fromkeys(ids)]

    async def content(self, letter: DeadLetter) -> Content | None:
        """Return the message of a letter, `None` where it is erased."""
        return (await self._bounded(READ_SECONDS, self._dead_letters.content, [letter])).get(letter.letter)

    async def replay(self, letters: Sequence[DeadLetter], by: str) -> int:
        """Send the messages of letters again. Returns how many were sent. Raises `TopicUnavailable`."""
        try:
            async with (
                asyncio.timeout(WRITE_SECONDS),
                open_interaction_topic(self._settings.topic, self._settings.store).producer() as producer,
            ):
                return await replay(self._dead_letters, letters, producer, by, lambda _: None)
        except TimeoutError as error:
            raise TopicUnavailable(f"not all could be sent within {WRITE_SECONDS:g} s; the rest still wait") from error

    async def discard(self, letters: Sequence[DeadLetter], by: str, reason: str) -> int:
        """Erase the messages of letters and record who did it and why. Returns how many."""
        await self._bounded(WRITE_SECONDS, self._dead_letters.discard, letters, by, reason, datetime.now(UTC))
        return len(letters)

    async def imports(self) -> list[tuple[datetime, FileReport]]:
        """Return the time and report of each finished import on this machine, the last first."""
        return await self._bounded(READ_SECONDS, _reports, self._settings.ingest.rejected)

    async def _bounded(self, seconds: float, call: Callable[..., T], *arguments: object) -> T:
        try:
            with self._slots.slot("operators"):
                return await self._calls.run(seconds, call, *arguments)
        except TimeoutError as error:
            raise LogUnavailable(f"there was no answer within {seconds:g} s") from error


def _reports(folder: Path) -> list[tuple[datetime, FileReport]]:
    files = sorted(folder.glob("*/report.json"), key=lambda file: -file.stat().st_mtime)[:MAX_REPORTS]
    reports = [
        (datetime.fromtimestamp(file.stat().st_mtime, UTC), ImportFolder(file.parent).report()) for file in files
    ]
    return [(finished, report) for finished, report in reports if report is not None]
