"""What an import keeps beside the log: counts and rejected rows, batch by batch, so that a report survives a kill.

The log's watermark and cursor are the checkpoint. A batch's files are written before its commit under the number of
its last row, and confirmed behind it. So after a kill one batch at most is unconfirmed: it counts if its number and its
cursor are the log's, and is thrown away otherwise.
"""

import gzip
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from filelock import FileLock, Timeout

from ingest.batch.report import Counts, FileReport, total
from recsys.errors import Conflict
from recsys.whole_file import replacing, write_whole

if TYPE_CHECKING:
    # The service reads reports, and its image has no table engine.
    from recsys.stores.event_log.cursors import SourcePosition

PENDING = ".pending"
"""Ends the name of a batch that is not known to be committed."""


class BatchCounts(msgspec.Struct, kw_only=True):
    """One batch's counts, 64-bit keys of the values it counted by name (to count distinct ones), and its cursor."""

    counts: Counts
    keys: dict[str, list[int]]
    cursor: Any = None


class ImportFolder:
    """`batches/` while the import runs; `rejected.jsonl.gz` and `report.json` when it is done."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._batches = folder / "batches"
        self._rejected = folder / "rejected.jsonl.gz"
        self._report = folder / "report.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the import's lock; raises `Conflict` while another process holds it. A killed process releases it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._folder / "lock", timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise Conflict(f"another process is importing the same file (it holds {lock.lock_file})") from error
        try:
            yield
        finally:
            lock.release()

    def report(self) -> FileReport | None:
        """Return the report of an earlier, finished import, or `None`."""
        return msgspec.json.decode(self._report.read_bytes(), type=FileReport) if self._report.exists() else None

    def open(self, position: "SourcePosition") -> None:
        """Delete every batch that the log does not have, and a report of another log."""
        self._report.unlink(missing_ok=True)
        self._batches.mkdir(parents=True, exist_ok=True)
        pending = self._batches / f"{_stem(position.watermark)}{PENDING}"
        if pending.exists() and _read(pending).cursor == position.cursor:
            self.confirm(position.watermark)
        for path in self._batches.iterdir():
            stem = path.name.split(".")[0]
            confirmed = (self._batches / f"{stem}.json").exists()
            if path.suffix == ".partial" or not confirmed or int(stem) > position.watermark:
                path.unlink(missing_ok=True)

    def write(self, last_row: int, batch: BatchCounts, rejected: bytes) -> None:
        """Write a batch's counts and its `rejected` rows (JSON Lines), before the batch is committed."""
        if rejected:
            write_whole(self._batches / f"{_stem(last_row)}.jsonl.gz", gzip.compress(rejected, 1, mtime=0))
        write_whole(self._batches / f"{_stem(last_row)}{PENDING}", msgspec.json.encode(batch))

    def confirm(self, last_row: int) -> None:
        """Note that the batch that ends with `last_row` is committed."""
        (self._batches / f"{_stem(last_row)}{PENDING}").rename(self._batches / f"{_stem(last_row)}.json")

    def finish(self, file: str, partition: str, watermark: int) -> FileReport:
        """Sum every batch, gather the rejected rows in one file and return the report; safe to repeat after a kill."""
        batches = [_read(path) for path in sorted(self._batches.glob("*.json"))]
        distinct: dict[str, set[int]] = {}
        for batch in batches:
            for name, keys in batch.keys.items():
                distinct.setdefault(name, set()).update(keys)
        counts = total(batch.counts for batch in batches)
        counts.check()
        report = FileReport(
            file=file,
            partition=partition,
            counts=counts,
            distinct={name: len(keys) for name, keys in distinct.items()},
            rejected_rows=self._gather_rejected(),
            unreported=watermark + 1 - counts.rows,
        )
        write_whole(self._report, msgspec.json.format(msgspec.json.encode(report), indent=2))
        self.discard_batches()
        return report

    def discard_batches(self) -> None:
        """Delete what the report was summed from; nothing where it is deleted already."""
        shutil.rmtree(self._batches, ignore_errors=True)

    def _gather_rejected(self) -> str | None:
        parts = sorted(self._batches.glob("*.jsonl.gz"))
        if not parts:
            return None
        with replacing(self._rejected) as whole:
            for part in parts:
                with part.open("rb") as piece:
                    shutil.copyfileobj(piece, whole)
        return str(self._rejected)


def _stem(last_row: int) -> str:
    return f"{last_row:015d}"


def _read(path: Path) -> BatchCounts:
    return msgspec.json.decode(path.read_bytes(), type=BatchCounts)
