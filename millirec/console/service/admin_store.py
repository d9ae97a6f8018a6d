"""What the console reads besides the API: dead letters, imports and manifests; in threads, with a timeout."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from ingest.batch.checkpoint import ImportFolder
from ingest.batch.report import FileReport
from ingest.maintenance.replay import replay
from millirec.settings import Settings
from recsys.background import Bounded
from recsys.errors import LogUnavailable, TopicUnavailable
from recsys.stores.dead_letters import open_dead_letters
from recsys.stores.dead_letters.protocol import Content, DeadLetter, LetterQuery
from recsys.stores.model_registry import open_index_registry
from recsys.stores.topic import open_interaction_topic

T = TypeVar("T")
READ_SECONDS = 10.0
WRITE_SECONDS = 60.0
MAX_REPORTS = 20


class AdminStore:
    """Access to log, topic and registry. Every call raises `LogUnavailable` or `RegistryUnavailable`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._dead_letters = open_dead_letters(settings.log)
        self._calls = Bounded()

    def lacks_log(self) -> str | None:
        """Return the configured path of the log where that folder does not exist on this machine, else None."""
        path = self._settings.log.path
        return None if "://" in path or Path(path).is_dir() else path

    async def letters(self, query: LetterQuery) -> list[DeadLetter]:
        """Return the dead letters of a query."""
        return await self._bounded(READ_SECONDS, self._dead_letters.letters, query)

    async def content(self, letter: DeadLetter) -> Content | None:
        """Return the message of a letter, None where it is erased."""
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

    async def discard(self, letters: Sequence[DeadLetter], by: str, reason: str) -> None:
        """Erase the messages of letters and record who did it and why."""
        await self._bounded(WRITE_SECONDS, self._dead_letters.discard, letters, by, reason, datetime.now(UTC))

    async def imports(self) -> list[tuple[datetime, FileReport]]:
        """Return the time and report of each finished import on this machine, the last first."""
        return await self._bounded(READ_SECONDS, _reports, self._settings.ingest.rejected)

    async def newest_checks(self) -> tuple[str, list[dict[str, Any]]] | None:
        """Return the newest version and the gate's checks: `name`, `setting`, `measured`, `limit`, `passed`."""
        versions = await self._bounded(READ_SECONDS, open_index_registry(self._settings.registry).versions)
        return (versions[-1].version, versions[-1].parameters.get("checks", [])) if versions else None

    async def _bounded(self, seconds: float, call: Callable[..., T], *arguments: object) -> T:
        try:
            return await self._calls.run(seconds, call, *arguments)
        except TimeoutError as error:
            raise LogUnavailable(f"there was no answer within {seconds:g} s") from error


def _reports(folder: Path) -> list[tuple[datetime, FileReport]]:
    files = sorted(folder.glob("*/report.json"), key=lambda file: -file.stat().st_mtime)[:MAX_REPORTS]
    reports = [
        (datetime.fromtimestamp(file.stat().st_mtime, UTC), ImportFolder(file.parent).report()) for file in files
    ]
    return [(when, report) for when, report in reports if report is not None]
