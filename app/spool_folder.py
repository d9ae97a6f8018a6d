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
from app.spool_file import SUFFIX, Spooled, SpoolFile, is_damage, is_full, is_held
from recsys.errors import InvalidInput
from recsys.interaction_topic import Outgoing

log = structlog.get_logger()
DAMAGED = ".corrupt"


class Holding(NamedTuple):
    """How much waits here, in bytes on disk, and since when (milliseconds since 1970)."""

    messages: int = 0
    bytes: int = 0
    oldest_ms: int | None = None

    def age(self) -> float:
        """Seconds that the oldest message has been waiting for."""
        return 0.0 if self.oldest_ms is None else max(0.0, time.time() - self.oldest_ms / 1000)


class SpoolFolder:
    """Not thread-safe. Methods raise `sqlite3.Error` and `OSError` where the disk does not do its part.

    A file lives from the first message it takes until it is empty, so that in peace there is none.
    """

    def __init__(self, folder: Path, limit: int, reserve: int = 0) -> None:
        """Each file takes up to `limit` bytes, as long as `reserve` bytes of the disk stay free."""
        self._folder = folder
        self._limit = limit
        self._reserve = reserve
        self._complaint = ""
        self._source: SpoolFile | None = None
        """What `first` read from."""
        self._files: list[SpoolFile] = []
        """Emptied from the first; the last one takes what comes."""

    @property
    def count(self) -> int:
        return sum(one.count for one in self._files)

    def holding(self) -> Holding:
        oldest = [at_ms for one in self._files if (at_ms := one.oldest_ms) is not None]
        return Holding(self.count, sum(one.bytes for one in self._files), min(oldest, default=None))

    def adopt(self) -> None:
        """Take over what nobody holds: a process that ends lets go of its files, however it ends."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        ours = {one.path for one in self._files}
        for path in sorted(set(self._folder.glob(f"*{SUFFIX}")) - ours):
            file = self._opened(path)
            if file is not None:
                self._files.append(file)
                self._take_stock(file)

    def append(self, messages: Sequence[Outgoing]) -> None:
        """On the disk when this returns; all or none."""
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

    def first(self, limit: int) -> list[Spooled]:
        """Up to `limit` of the oldest messages, none of them damaged. Empty when nothing is left."""
        while self._files:
            file = self._files[0]
            try:
                found = file.first(limit)
                damaged = [one for one in found if one.message is None]
                for one in damaged:
                    self._quarantine(file, one)
                if damaged:
                    self._removed(file, [one.number for one in damaged])
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                self._set_aside(file, error)
                continue
            self._source = file
            if len(found) > len(damaged):
                return [one for one in found if one.message is not None]
            self._discard_if_empty(file)
        return []

    def remove(self, numbers: Sequence[int]) -> None:
        """What `first` gave, now that the topic has it. In a file that was damaged meanwhile it is sent again."""
        file = self._source
        if file is None or file not in self._files:
            return
        try:
            self._removed(file, numbers)
        except sqlite3.DatabaseError as error:
            self._set_aside(file, error)
        else:
            self._discard_if_empty(file)

    def _removed(self, file: SpoolFile, numbers: Sequence[int]) -> None:
        """A disk without room for it does not keep what is behind from being sent. Raises what damage raises."""
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
        for one in self._files:
            one.close()
        self._files.clear()

    def _new(self) -> SpoolFile:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Never a name that was there before: who still opens a file that was discarded must find nothing new in it.
        return SpoolFile(self._folder / f"{time.time_ns():020d}-{token_hex(4)}{SUFFIX}", self._limit)

    def _opened(self, path: Path) -> SpoolFile | None:
        try:
            return SpoolFile(path, self._limit)
        except sqlite3.DatabaseError as error:
            if is_damage(error):
                SPOOL_DAMAGED.inc()
                aside = _renamed(path)
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

    def _quarantine(self, file: SpoolFile, one: Spooled) -> None:
        place = file.path.with_name(f"{file.path.stem}-{one.number}{DAMAGED}")
        place.write_bytes(bytes(one.packed) if isinstance(one.packed, bytes) else str(one.packed).encode())
        SPOOL_DAMAGED.inc()
        log.error("a spooled message is damaged, it was set aside", path=str(place))

    def _set_aside(self, file: SpoolFile, error: sqlite3.Error) -> None:
        """Go on with all that can still be read, in a new file."""
        fresh = self._new()
        try:
            fresh.restore(file.readable())
        except BaseException:
            fresh.discard()
            raise
        self._files[self._files.index(file)] = fresh
        file.close()
        aside = _renamed(file.path)
        SPOOL_DAMAGED.inc()
        log.error(
            "a file of the spool is damaged, it was set aside",
            path=str(aside), kept=fresh.count, error=str(error),
        )  # fmt: skip
        self._discard_if_empty(fresh)


def _renamed(path: Path) -> Path:
    """Nobody may hold it open: SQLite would find its write-ahead log by the old name."""
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
    """Of the disk that `folder` is on, or will be."""
    place = folder.resolve()
    return shutil.disk_usage(next(path for path in (place, *place.parents) if path.exists())).free


def unowned(folder: Path) -> dict[Path, int]:
    """Messages in files that no process holds, and 0 for what was set aside: for whoever looks from outside."""
    found = dict.fromkeys(folder.glob(f"*{DAMAGED}"), 0)
    for path in folder.glob(f"*{SUFFIX}"):
        try:
            file = SpoolFile(path, 0)
        except sqlite3.DatabaseError as error:
            if not is_held(error):
                found[path] = 0
            continue
        with suppress(sqlite3.DatabaseError):
            file.recount()
        found[path] = file.count
        file.close()
    return found
