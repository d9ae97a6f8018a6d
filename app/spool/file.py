"""One file of the spool: messages in the order in which they came, in SQLite, held by one process at a time.

One connection with an exclusive lock, which the system takes back from a process that is killed. A commit is one fsync
of the write-ahead log; a tail that was torn off is recognised by the checksums of its frames and was never
acknowledged. Each message has a checksum of its own besides, since SQLite has none in the pages of the file itself.

Removal needs room on the disk as well. Without room, sent messages are only skipped, in memory, and the file is
deleted as a whole once all of it was sent: that needs no room.

Statements handle hundreds of messages at once: Python releases its global lock for every step of a statement, and
under load a thread waits milliseconds to get it back.
"""

import errno
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from zlib import crc32

import msgspec

from recsys.stores.topic import Outgoing

SUFFIX = ".sqlite"
PAGE_BYTES = 4096
ROWS = 300
"""In one statement; older versions of SQLite take no more than 999 variables."""
JOURNAL_BYTES = 4 << 20
"""Bytes that the write-ahead log keeps on disk between transactions, on top of the limit."""

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(tuple[str, bytes, dict[str, bytes]]).decode
_rows = msgspec.json.Decoder(list[tuple[int, str, int]]).decode
Row = tuple[int, bytes, int]
"""Milliseconds since 1970 when it was spooled, the packed message and its checksum."""


@dataclass(frozen=True, slots=True)
class SpoolEntry:
    """One message of a file; `message` is `None` if it is damaged."""

    number: int
    packed: bytes
    message: Outgoing | None


class SpoolFile:
    """Not thread-safe. Every method may raise `sqlite3.Error`; `is_damage` and `is_held` say which."""

    def __init__(self, path: Path, limit: int) -> None:
        """Open or create; `limit` is in bytes. Refused while another process holds the file."""
        self.path = path
        self.count = 0
        """Messages to be sent; for an existing file known only after `recount`, which reads all of it."""
        self._offered: list[int] = []
        self._sent_to = 0
        """All messages up to this number are sent."""
        self._sent: set[int] = set()
        """Sent messages with higher numbers."""
        self._db = sqlite3.connect(path, timeout=0.0, isolation_level=None, check_same_thread=False)
        try:
            for pragma in (
                "locking_mode = EXCLUSIVE",
                "journal_mode = WAL",
                "synchronous = FULL",
                "cell_size_check = ON",
                f"journal_size_limit = {JOURNAL_BYTES}",
                f"max_page_count = {max(2, limit // PAGE_BYTES)}",
            ):
                self._db.execute(f"PRAGMA {pragma}")
            with self._transaction():
                self._db.execute(
                    "CREATE TABLE IF NOT EXISTS message (number INTEGER PRIMARY KEY AUTOINCREMENT, "
                    "at_ms INTEGER NOT NULL, packed BLOB NOT NULL, checksum INTEGER NOT NULL)"
                )
        except BaseException:
            self._db.close()
            raise

    def recount(self) -> None:
        """Set `count` by reading the whole file."""
        self.count = self._scalar("SELECT count(*) FROM message")

    @property
    def bytes(self) -> int:
        """Bytes in use; the file itself does not shrink until it is discarded."""
        return PAGE_BYTES * (self._scalar("PRAGMA page_count") - self._scalar("PRAGMA freelist_count"))

    @property
    def oldest_ms(self) -> int | None:
        """When the oldest unsent message was spooled, in milliseconds since 1970; `None` without one."""
        query = "SELECT at_ms FROM message WHERE number > ? ORDER BY number LIMIT 1"
        row = self._db.execute(query, (self._sent_to,)).fetchone()
        return None if row is None else int(row[0])

    def append(self, messages: Iterable[Outgoing]) -> None:
        """Write `messages` to the disk before returning, all or none."""
        now_ms = time.time_ns() // 1_000_000
        packed = (_pack((message.key, message.value, dict(message.headers))) for message in messages)
        self.restore((now_ms, blob, crc32(blob)) for blob in packed)

    def restore(self, rows: Iterable[Row]) -> None:
        """Write rows as they are, checksums included; all or none."""
        remaining, added = iter(rows), 0
        with self._transaction():
            while chunk := list(islice(remaining, ROWS)):
                values = ", ".join(["(?, ?, ?)"] * len(chunk))
                columns = "INSERT INTO message (at_ms, packed, checksum) VALUES "
                self._db.execute(columns + values, [value for row in chunk for value in row])
                added += len(chunk)
        self.count += added

    def first(self, limit: int) -> list[SpoolEntry]:
        """Up to `limit` of the oldest unsent messages, in order."""
        (rows,) = self._db.execute(
            "SELECT json_group_array(json_array(number, hex(packed), CAST(checksum AS INTEGER))) "
            "FROM (SELECT * FROM message WHERE number > ? ORDER BY number LIMIT ?)",
            (self._sent_to, limit),
        ).fetchone()
        entries = [(number, bytes.fromhex(packed), checksum) for number, packed, checksum in _rows(rows)]
        self._offered = [number for number, _, _ in entries]
        return [
            SpoolEntry(number, packed, _message(packed, checksum))
            for number, packed, checksum in entries
            if number not in self._sent
        ]

    def remove(self, numbers: Sequence[int]) -> None:
        """Remove messages that `first` returned. If this fails they are skipped, and removed with the next ones."""
        self.count -= len(numbers)
        self._sent.update(numbers)
        unsent = next((number for number in self._offered if number not in self._sent), None)
        self._sent_to = self._offered[-1] if unsent is None else unsent - 1
        self._sent = {number for number in self._sent if number > self._sent_to}
        gone = [*self._sent]
        with self._transaction():
            self._db.execute("DELETE FROM message WHERE number <= ?", (self._sent_to,))
            for start in range(0, len(gone), ROWS):
                chunk = gone[start : start + ROWS]
                marks = ", ".join("?" * len(chunk))
                self._db.execute(f"DELETE FROM message WHERE number IN ({marks})", chunk)  # noqa: S608

    def readable(self) -> Iterator[Row]:
        """The readable rows of a damaged file, in order: those before the damage and those behind it."""
        last = -1
        with suppress(sqlite3.DatabaseError):
            for number, *row in self._db.execute("SELECT * FROM message ORDER BY number"):
                yield row[0], row[1], row[2]
                last = number
        behind: list[int] = []
        with suppress(sqlite3.DatabaseError):
            rows = self._db.execute("SELECT number FROM message WHERE number > ? ORDER BY number DESC", (last,))
            behind.extend(number for (number,) in rows)
        for number in reversed(behind):
            with suppress(sqlite3.DatabaseError):
                query = "SELECT at_ms, packed, checksum FROM message WHERE number = ?"
                yield self._db.execute(query, (number,)).fetchone()

    def close(self) -> None:
        """Close the file; its messages stay."""
        self._db.close()

    def discard(self) -> None:
        """Close and delete the file."""
        self.close()
        for end in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + end).unlink(missing_ok=True)

    def _scalar(self, query: str) -> int:
        value: int = self._db.execute(query).fetchone()[0]
        return value

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            # A full disk has SQLite roll back by itself.
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise


def _message(packed: bytes, checksum: int) -> Outgoing | None:
    try:
        return Outgoing(*_unpack(packed)) if crc32(packed) == checksum else None
    except (msgspec.DecodeError, TypeError):
        return None


def is_held(error: sqlite3.Error) -> bool:
    """Return whether another process holds the file."""
    return _code(error) == sqlite3.SQLITE_BUSY


def is_full(error: Exception) -> bool:
    """Return whether the limit of the file is reached or the disk is full."""
    if isinstance(error, sqlite3.Error):
        return _code(error) == sqlite3.SQLITE_FULL
    return isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}


def is_damage(error: sqlite3.Error) -> bool:
    """Return whether the file is damaged."""
    return _code(error) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def _code(error: sqlite3.Error) -> int:
    """The primary result code; the upper bits only refine it."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
