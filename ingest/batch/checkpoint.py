"""What an import keeps beside the log: counts and rejected rows, batch by batch, so that a report survives a kill.

The log's watermark is the checkpoint. A batch's files are written before its commit and carry the number of
its last row, so what lies beyond the watermark was never committed and is thrown away.
"""

import gzip
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from filelock import FileLock, Timeout

from ingest.batch.report import Counts, FileReport, total
from recsys.errors import Conflict


class BatchCounts(msgspec.Struct, kw_only=True):
    """One batch's counts, and 64-bit keys of the values it counted by name, for counting distinct ones."""

    counts: Counts
    keys: dict[str, list[int]]


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

    def open(self, watermark: int) -> None:
        """Delete every batch that the log does not have, and a report of another log."""
        self._report.unlink(missing_ok=True)
        self._batches.mkdir(parents=True, exist_ok=True)
        for path in self._batches.iterdir():
            if path.suffix == ".partial" or int(path.name.split(".")[0]) > watermark:
                path.unlink()

    def write(self, last_row: int, batch: BatchCounts, rejected: bytes) -> None:
        """Write a batch's counts and its `rejected` rows (JSON Lines), before the batch is committed."""
        stem = f"{last_row:015d}"
        if rejected:
            _write(self._batches / f"{stem}.jsonl.gz", gzip.compress(rejected, 1, mtime=0))
        _write(self._batches / f"{stem}.json", msgspec.json.encode(batch))

    def finish(self, file: str, partition: str, watermark: int) -> FileReport:
        """Sum every batch, gather the rejected rows in one file and return the report; safe to repeat after a kill."""
        batches = [
            msgspec.json.decode(path.read_bytes(), type=BatchCounts) for path in sorted(self._batches.glob("*.json"))
        ]
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
        _write(self._report, msgspec.json.format(msgspec.json.encode(report), indent=2))
        shutil.rmtree(self._batches)
        return report

    def _gather_rejected(self) -> str | None:
        parts = sorted(self._batches.glob("*.jsonl.gz"))
        if not parts:
            return None
        partial = self._rejected.with_suffix(".partial")
        with partial.open("wb") as whole:
            for part in parts:
                with part.open("rb") as piece:
                    shutil.copyfileobj(piece, whole)
        partial.replace(self._rejected)
        return str(self._rejected)


def _write(path: Path, content: bytes) -> None:
    """Write the file atomically."""
    partial = path.with_suffix(".partial")
    partial.write_bytes(content)
    partial.replace(path)
