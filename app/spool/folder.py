"""The files of the spool that this process holds: its own, and those of processes that ended before they were empty."""

import errno
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import NamedTuple

import structlog

from app.metrics import SPOOL_DAMAGED
from app.spool.file import SUFFIX, SpoolEntry, SpoolFile, is_damage, is_full, is_held
from recsys.errors import InvalidInput
from recsys.stores.topic import Outgoing

log = structlog.get_logger()
DAMAGED = ".corrupt"


class Holding(NamedTuple):
    """The number of waiting messages, their bytes on disk and the time of the oldest (milliseconds since 1970)."""

    messages: int = 0
    bytes: int = 0
    oldest_ms: int | None = None

    def age(self) -> float:
        """Seconds that the oldest message has been waiting for."""
        return 0.0 if self.oldest_ms is None else max(0.0, time.time() - self.oldest_ms / 1000)


class SpoolFolder:
    """The spool's files. Not thread-safe. Methods raise `sqlite3.Error` and `OSError` if the disk fails.

    A file exists from its first message until it is empty: normally there is none.
    """

    def __init__(self, folder: Path, limit: int, reserve: int = 0) -> None:
        """Each file takes up to `limit` bytes, as long as `reserve` bytes of the disk stay free."""
        self._folder = folder
        self._limit = limit
        self._reserve = reserve
        self._complaint = ""
        self._source: SpoolFile | None = None
        """The file that `first` read from."""
        self._files: list[SpoolFile] = []
        """Emptied from the first; the last one takes what comes."""

    @property
    def count(self) -> int:
        """The number of messages to be sent, over all files."""
        return sum(file.count for file in self._files)

    def holding(self) -> Holding:
        """The number, the bytes and the age of the messages, over all files."""
        oldest = [at_ms for file in self._files if (at_ms := file.oldest_ms) is not None]
        return Holding(self.count, sum(file.bytes for file in self._files), min(oldest, default=None))

    def adopt(self) -> None:
        """Take over the files that no process holds; a process that ends releases its files."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        ours = {spool_file.path for spool_file in self._files}
        for path in sorted(set(self._folder.glob(f"*{SUFFIX}")) - ours):
            file = self._open(path)
            if file is not None:
                self._files.append(file)
                self._take_stock(file)

    def append(self, messages: Sequence[Outgoing]) -> None:
        """Write `messages` to the disk before returning, all or none."""
        if self._reserve and free_bytes(self._folder) < self._reserve:
            raise OSError(errno.ENOSPC, f"less than {self._reserve} bytes are free", str(self._folder))
        if not self._files:
            self._files.append(self._new())
        file = self._files[-1]
        try:
            file.append(messages)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            self._set_aside(file, error)
            self.append(messages)

    def first(self, limit: int) -> list[SpoolEntry]:
        """Up to `limit` of the oldest messages, none of them damaged. Empty when nothing is left."""
        while self._files:
            file = self._files[0]
            try:
                entries = file.first(limit)
                damaged = [entry for entry in entries if entry.message is None]
                for entry in damaged:
                    self._quarantine(file, entry)
                if damaged:
                    self._remove(file, [entry.number for entry in damaged])
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                self._set_aside(file, error)
                continue
            self._source = file
            if len(entries) > len(damaged):
                return [entry for entry in entries if entry.message is not None]
            self._discard_if_empty(file)
        return []

    def remove(self, numbers: Sequence[int]) -> None:
        """Remove messages that `first` returned and the topic has. After damage to the file they are sent again."""
        file = self._source
        if file is None or file not in self._files:
            return
        try:
            self._remove(file, numbers)
        except sqlite3.DatabaseError as error:
            self._set_aside(file, error)
        else:
            self._discard_if_empty(file)

    def _remove(self, file: SpoolFile, numbers: Sequence[int]) -> None:
        """Remove messages; a full disk is only logged, so that later messages are still sent. Raises on damage."""
        complaint = ""
        try:
            file.remove(numbers)
        except sqlite3.DatabaseError as error:
            if is_damage(error):
                raise
            complaint = str(error)
        if complaint and complaint != self._complaint:
            log.error("what the topic took cannot be removed from the spool yet, going on behind it", error=complaint)
        self._complaint = complaint

    def close(self) -> None:
        """Close all files; their messages stay."""
        for file in self._files:
            file.close()
        self._files.clear()

    def _new(self) -> SpoolFile:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Always a new name: a process that still opens a discarded file must find nothing new in it.
        return SpoolFile(self._folder / f"{time.time_ns():020d}-{token_hex(4)}{SUFFIX}", self._limit)

    def _open(self, path: Path) -> SpoolFile | None:
        try:
            return SpoolFile(path, self._limit)
        except sqlite3.DatabaseError as error:
            if is_damage(error):
                SPOOL_DAMAGED.inc()
                aside = _rename(path)
                log.error("a file of the spool cannot be opened, it was set aside", path=str(aside), error=str(error))
            elif not is_held(error):
                raise
            return None

    def _take_stock(self, file: SpoolFile) -> None:
        try:
            file.recount()
        except sqlite3.DatabaseError as error:
            if is_damage(error):
                self._set_aside(file, error)
                return
            self._files.remove(file)
            file.close()
            raise
        log.info("messages of an earlier process are on the spool", path=str(file.path), messages=file.count)
        self._discard_if_empty(file)

    def _discard_if_empty(self, file: SpoolFile) -> None:
        if not file.count:
            self._files.remove(file)
            file.discard()

    def _quarantine(self, file: SpoolFile, entry: SpoolEntry) -> None:
        path = file.path.with_name(f"{file.path.stem}-{entry.number}{DAMAGED}")
        path.write_bytes(bytes(entry.packed) if isinstance(entry.packed, bytes) else str(entry.packed).encode())
        SPOOL_DAMAGED.inc()
        log.error("a spooled message is damaged, it was set aside", path=str(path))

    def _set_aside(self, file: SpoolFile, error: sqlite3.Error) -> None:
        """Copy all readable messages to a new file, and rename the damaged one."""
        fresh = self._new()
        try:
            fresh.restore(file.readable())
        except BaseException:
            fresh.discard()
            raise
        self._files[self._files.index(file)] = fresh
        file.close()
        aside = _rename(file.path)
        SPOOL_DAMAGED.inc()
        log.error(
            "a file of the spool is damaged, it was set aside",
            path=str(aside), kept=fresh.count, error=str(error),
        )  # fmt: skip
        self._discard_if_empty(fresh)


def _rename(path: Path) -> Path:
    """Rename a file and return its new path. It must be closed: SQLite finds the write-ahead log by the old name."""
    for end in ("-wal", ""):
        with suppress(FileNotFoundError):
            aside = path.with_name(f"{path.name}{DAMAGED}{end}")
            path.with_name(path.name + end).rename(aside)
    return aside


def check_folder(folder: Path) -> None:
    """Raises `InvalidInput` for a folder that can keep nothing, which would be noticed in the first outage only.

    Its parent has to exist: to make that too could mean to write below the mount point of a disk that is away. A disk
    that is full is no reason, since what is on it has to be sent.
    """
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        list(folder.iterdir())
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"x")
    except OSError as error:
        if not is_full(error):
            missing = not folder.parent.exists()
            reason = f"{folder.parent} is not there: is its disk mounted?" if missing else str(error)
            raise InvalidInput(
                "serve.spool", f"{folder} can keep no events (MILLIREC_SERVE__SPOOL): {reason}"
            ) from None


def free_bytes(folder: Path) -> int:
    """Free bytes of the disk of `folder`, which need not exist yet."""
    location = folder.resolve()
    return shutil.disk_usage(next(path for path in (location, *location.parents) if path.exists())).free


def unowned(folder: Path) -> dict[Path, int]:
    """The number of messages per file that no process holds; 0 for damaged files that were set aside."""
    counts = dict.fromkeys(folder.glob(f"*{DAMAGED}"), 0)
    for path in folder.glob(f"*{SUFFIX}"):
        try:
            file = SpoolFile(path, 0)
        except sqlite3.DatabaseError as error:
            if not is_held(error):
                counts[path] = 0
            continue
        with suppress(sqlite3.DatabaseError):
            file.recount()
        counts[path] = file.count
        file.close()
    return counts
