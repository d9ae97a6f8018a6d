"""Import files into the log: `millirec import`.

An import is one more partition of the log, named by a digest of the file and its mapping, in which a row's
number is its offset. So the log's own watermark says where an import that was killed goes on, and that a file
was imported already; and a row is committed together with the watermark that passes it, or not at all.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import polars as pl

from ingest.batch.checkpoint import BatchCounts, ImportFolder
from ingest.batch.mapping import Mapping, mapping_by_name
from ingest.batch.report import Counts, FileReport, QualityReport
from ingest.batch.row_flow import MappedRows, interactions_of, items_of, map_rows
from ingest.batch.seen_events import SeenEvents
from ingest.settings import IngestSettings
from ingest.sources import Source, open_source
from ingest.sources.record import ROW, RawRows
from recsys.errors import Conflict, InvalidInput
from recsys.messages.interaction import event_key
from recsys.messages.item import Item
from recsys.stores.event_log import INTERACTION_SCHEMA, InteractionLog


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one file is: `done` of `total` (bytes, or rows where the format knows them), and `rows` so far."""

    file: Path
    rows: int
    done: int
    total: int


def import_files(
    paths: Sequence[Path],
    mapping: Mapping | None,
    log: InteractionLog,
    settings: IngestSettings,
    progress: Callable[[Progress], None] = lambda _: None,
    *,
    moment: datetime | None = None,
) -> QualityReport:
    """Import each file, or the rest of it, and return the report. Without a mapping the columns must have our names.

    Memory stays bounded by `settings.import_rows`, plus 8 bytes per interaction of the log for recognising repeats.
    Raises `InvalidInput` before anything is written when a file or the mapping is unfit, and at the damaged
    position of a file (rows before it stay imported); `Conflict` when another process imports the same file;
    `LogUnavailable`.
    """
    moment = moment or datetime.now(UTC)
    prepared = [_prepare(path, mapping, log, settings, moment) for path in paths]
    report = QualityReport(files=[file_import.run(progress) for file_import in prepared])
    if not all(file.already_imported for file in report.files):
        # Rows in no order of time leave a small file per batch and date.
        log.compact()
    return report


def _prepare(
    path: Path, mapping: Mapping | None, log: InteractionLog, settings: IngestSettings, moment: datetime
) -> "_FileImport":
    dialect = mapping or Mapping.model_construct()
    source = open_source(path, dialect.encoding, dialect.delimiter, settings.import_columns)
    if ROW in source.columns:
        raise InvalidInput(str(path), f"has a column named {ROW!r}: rename it")
    mapping = mapping or mapping_by_name(source.columns)
    mapping.check_columns(source.columns)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(mapping.model_dump_json().encode())
    partition = f"import:{digest.hexdigest()[:16]}"
    folder = ImportFolder(settings.rejected / f"{path.name}-{digest.hexdigest()[:16]}")
    return _FileImport(path, source, mapping, partition, folder, log, settings, moment)


@dataclass(frozen=True, slots=True)
class _FileImport:
    path: Path
    source: Source
    mapping: Mapping
    partition: str
    folder: ImportFolder
    log: InteractionLog
    settings: IngestSettings
    moment: datetime

    def run(self, progress: Callable[[Progress], None]) -> FileReport:
        """Import the file or the rest of it and return its report; raises `Conflict` if another process imports it."""
        with self.folder.locked():
            return self._run(progress)

    def _run(self, progress: Callable[[Progress], None]) -> FileReport:
        start = self.log.watermark(self.partition)
        report = self.folder.report()
        if report is not None and start >= 0:
            progress(Progress(self.path, start + 1, self.source.total, self.source.total))
            return msgspec.structs.replace(report, already_imported=True)
        self.folder.open(start)
        seen_events = SeenEvents(self.log, self.partition)
        last = start
        for raw in self.source.batches(self.settings.import_rows, start + 1):
            self._import_batch(raw, seen_events)
            last = raw.end - 1
            progress(Progress(self.path, raw.end, self.source.position(), self.source.total))
        report = self.folder.finish(str(self.path), self.partition, last)
        return msgspec.structs.replace(report, already_imported=start >= 0 and last == start)

    def _import_batch(self, source_rows: RawRows, seen_events: SeenEvents) -> None:
        raw = _with_every_column(source_rows, self.mapping)
        mapped = map_rows(raw, self.mapping, self.moment, self.settings)
        counts = Counts(
            rows=raw.end - raw.start,
            rejected=dict(mapped.rejected.get_column("reason").value_counts().iter_rows()),
            problems=dict(mapped.problems),
        )
        rows, items = self._fresh(mapped, seen_events, counts)
        # Repeating this after a crash changes nothing: equal updates are one.
        for error in self.log.append_items(items).values():
            reason = f"an item's {error.field} {error.reason}"
            counts.problems[reason] = counts.problems.get(reason, 0) + 1
        counts.check()
        last = raw.end - 1
        keys = self._keys(raw, rows, items)
        self.folder.write(last, BatchCounts(counts=counts, keys=keys), _rejected_lines(self.path, raw, mapped))
        if not self.log.append(rows, {self.partition: last}):
            raise Conflict(f"{self.path} is being imported by another process")

    def _fresh(self, mapped: MappedRows, seen_events: SeenEvents, counts: Counts) -> tuple[pl.DataFrame, list[Item]]:
        """Return the rows to append and their items; counts accepted and merged rows.

        Of rows that are the same interaction the first is kept unchanged. Nothing is summed: a later row may
        come after the first was committed, and the result must not depend on the size of the batches.
        """
        fit = mapped.fit
        if self.mapping.interaction is None:
            counts.accepted = fit.height
            return pl.DataFrame(schema=INTERACTION_SCHEMA), items_of(fit, self.mapping, self.moment)
        interactions = interactions_of(fit, self.mapping.interaction)
        new, in_log = seen_events.sort_out(interactions)
        counts.accepted, counts.known = int(new.sum()), int(in_log.sum())
        counts.repeats = len(new) - counts.accepted - counts.known
        rows = interactions.filter(new).with_columns(
            pl.lit(None, pl.String).alias("extra"),
            pl.lit(self.partition).alias("partition"),
            pl.col(ROW).alias("offset"),
            pl.col("occurred_at").dt.date().alias("date"),
        )
        counts.first, counts.last = rows.select(
            pl.col("occurred_at").min().alias("first"), pl.col("occurred_at").max().alias("last")
        ).row(0)
        return rows.select(INTERACTION_SCHEMA.keys()), items_of(fit.filter(new), self.mapping, self.moment)

    def _keys(self, raw: RawRows, rows: pl.DataFrame, items: list[Item]) -> dict[str, list[int]]:
        """Return keys for counting distinct values: users and items of accepted rows, the mapping's of all rows."""
        item_ids = {*rows.get_column("item_id"), *(item.item_id for item in items)}
        counted: dict[str, Iterable[str | None]] = {"users": rows.get_column("user_id").unique(), "items": item_ids}
        counted |= {name: raw.frame.get_column(column).unique() for name, column in self.mapping.count.items()}
        return {name: [event_key(v) for v in values if v is not None] for name, values in counted.items()}


def _with_every_column(raw: RawRows, mapping: Mapping) -> RawRows:
    """Add empty columns for those that are optional, or that no JSON object of this batch has."""
    named = {name for _, field in mapping.fields() for name in field.needed()}
    named |= {rule.column for rule in mapping.reject} | set(mapping.count.values())
    absent = sorted(named.difference(raw.frame.columns))
    frame = raw.frame.with_columns(pl.lit(None, pl.String).alias(name) for name in absent)
    return RawRows(raw.start, raw.end, frame, raw.broken)


def _rejected_lines(path: Path, raw: RawRows, mapped: MappedRows) -> bytes:
    """Return the rejected rows as JSON Lines, each with its row number (from 1) and the reason."""
    columns = [name for name in raw.frame.columns if name != ROW]
    verdicts = mapped.rejected.select(
        pl.lit(path.name).alias("file"), (pl.col(ROW) + 1).alias("row"), "field", "reason", ROW
    )
    whole = raw.frame.select(ROW, pl.struct(columns).alias("raw"))
    rejected = verdicts.join(whole, on=ROW, how="inner", maintain_order="left").drop(ROW)
    broken = [
        {"file": path.name, "row": row.row + 1, "field": "", "reason": row.reason, "raw": row.raw} for row in raw.broken
    ]
    return rejected.write_ndjson().encode() + msgspec.json.Encoder().encode_lines(broken)
