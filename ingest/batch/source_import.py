"""Import one source into the log, batch by batch: its rows, its cursor and its counts agree wherever it is killed.

A source is one more partition of the log, in which a row's number is its offset. A row is committed together
with the watermark and the cursor that pass it, or not at all.
"""

from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec
import polars as pl

from ingest.batch.checkpoint import BatchCounts, ImportFolder
from ingest.batch.mapping import Mapping
from ingest.batch.report import Counts, FileReport
from ingest.batch.row_flow import MappedRows, interactions_of, items_of, map_rows
from ingest.batch.seen_events import SeenEvents
from ingest.settings import IngestSettings
from ingest.sources.protocol import Source
from ingest.sources.rows import ROW, RawRows
from recsys.messages.interaction import event_key
from recsys.messages.item import Item
from recsys.stores.event_log import INTERACTION_SCHEMA, InteractionLog
from recsys.stores.event_log.cursors import Cursor, CursorMove, SourcePosition


@dataclass(frozen=True, slots=True)
class SourceImport:
    """One source, called `name` in reports, on its way into the log; `folder` keeps what its report is made of."""

    source: Source
    name: str
    mapping: Mapping
    folder: ImportFolder
    log: InteractionLog
    settings: IngestSettings
    moment: datetime

    def run(self, progress: Callable[[int], None]) -> FileReport:
        """Import what follows the log's cursor and return the report; `progress` gets the rows imported so far.

        The caller holds the folder's lock. Raises `Conflict` when another process imports the same source, and what
        the source raises: batches before that stay imported.
        """
        position = self.log.source_position(self.source.partition)
        self.folder.open(position)
        seen_events = SeenEvents(self.log, self.source.partition)
        last = position.watermark
        with closing(self.source.batches(_cursor_of(position))) as batches:
            for cursor, rows in batches:
                raw = rows.number_from(last + 1)
                self._import_batch(raw, cursor, seen_events)
                last = raw.end - 1
                progress(raw.end)
        report = self.folder.finish(self.name, self.source.partition, last)
        return msgspec.structs.replace(report, already_imported=position.watermark >= 0 and last == position.watermark)

    def _import_batch(self, source_rows: RawRows, cursor: Cursor, seen_events: SeenEvents) -> None:
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
        batch = BatchCounts(counts=counts, keys=self._keys(raw, rows, items), cursor=cursor)
        self.folder.write(last, batch, self._rejected_lines(raw, mapped))
        partition = self.source.partition
        self.log.append(rows, {partition: last}, {partition: CursorMove(raw.start - 1, cursor)})
        self.folder.confirm(last)

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
            pl.lit(self.source.partition).alias("partition"),
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

    def _rejected_lines(self, raw: RawRows, mapped: MappedRows) -> bytes:
        """Return the rejected rows as JSON Lines, each with its row number (from 1) and the reason."""
        columns = [name for name in raw.frame.columns if name != ROW]
        verdicts = mapped.rejected.select(
            pl.lit(Path(self.name).name).alias("file"), (pl.col(ROW) + 1).alias("row"), "field", "reason", ROW
        )
        whole = raw.frame.select(ROW, pl.struct(columns).alias("raw"))
        rejected = verdicts.join(whole, on=ROW, how="inner", maintain_order="left").drop(ROW)
        broken = [
            {"file": Path(self.name).name, "row": row.row + 1, "field": "", "reason": row.reason, "raw": row.raw}
            for row in raw.broken
        ]
        return rejected.write_ndjson().encode() + msgspec.json.Encoder().encode_lines(broken)


def _cursor_of(position: SourcePosition) -> Cursor | None:
    """Return the cursor to go on from.

    A partition without one is a file's that was imported before there were cursors: its rows are its offsets.
    """
    if position.cursor is None and position.watermark >= 0:
        return position.watermark + 1
    return position.cursor


def _with_every_column(raw: RawRows, mapping: Mapping) -> RawRows:
    """Add empty columns for those that are optional, or that no row of this batch has."""
    named = {name for _, field in mapping.fields() for name in field.needed()}
    named |= {rule.column for rule in mapping.reject} | set(mapping.count.values())
    absent = sorted(named.difference(raw.frame.columns))
    frame = raw.frame.with_columns(pl.lit(None, pl.String).alias(name) for name in absent)
    return RawRows(raw.start, raw.end, frame, raw.broken)
