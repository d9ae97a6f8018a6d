"""The path of a batch of raw rows from files: cleanse, validate, and sort by kind."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

import polars as pl
import xxhash

from ingest.batch import cleansing
from ingest.batch.mapping import InteractionMapping, Mapping
from ingest.batch.validation import Check, checks
from ingest.settings import IngestSettings
from ingest.sources.rows import ROW, RawRows
from recsys.messages.item import Item
from recsys.messages.limits import ReasonCode
from recsys.stores.event_log import INTERACTION_SCHEMA

NOT_FROM_CONTENT = ("extra", "partition", "offset", "date")
CONTENT_SCHEMA = {name: dtype for name, dtype in INTERACTION_SCHEMA.items() if name not in NOT_FROM_CONTENT}
"""The log's columns that come from a row's content; others come from where it stands, and a mapping has no extras."""


@dataclass(frozen=True, slots=True)
class MappedRows:
    """Every raw row is either in `fit` or in `rejected`.

    `fit` has ROW, every raw column and every typed one (TYPED + field path). `rejected` has ROW, `field`,
    `code` and `reason`. `problems` counts every problem of every row; a row's first problem is its reason.
    """

    fit: pl.DataFrame
    rejected: pl.DataFrame
    problems: Counter[str]


def map_rows(raw: RawRows, mapping: Mapping, moment: datetime, settings: IngestSettings) -> MappedRows:
    """Map and check every row; a bad row is rejected, never an exception."""
    typed = raw.frame.with_columns(
        cleansing.typed(field).alias(cleansing.TYPED + path) for path, field in mapping.fields()
    )
    rules = checks(mapping, moment, settings)
    flags = typed.with_columns(check.wrong.fill_null(value=False).alias(f"{n}") for n, check in enumerate(rules))
    flags = flags.select(ROW, *(f"{n}" for n in range(len(rules))))
    problems = Counter(row.reason for row in raw.broken)
    for reason in dict.fromkeys(check.reason for check in rules):
        same = [f"{n}" for n, check in enumerate(rules) if check.reason == reason]
        problems[reason] += int(flags.select(pl.any_horizontal(same).sum()).item())
    first = pl.coalesce(pl.lit(None, pl.Int32), *(pl.when(f"{n}").then(n) for n in range(len(rules))))
    verdicts = flags.select(ROW, first.alias("check"))
    return MappedRows(
        fit=typed.filter(verdicts.get_column("check").is_null()),
        rejected=_rejected(verdicts.drop_nulls("check"), rules, raw),
        problems=+problems,
    )


def _rejected(verdicts: pl.DataFrame, rules: list[Check], raw: RawRows) -> pl.DataFrame:
    schema = {ROW: pl.Int64(), "field": pl.String(), "code": pl.String(), "reason": pl.String()}
    named = pl.DataFrame(
        [(n, check.field, check.code, check.reason) for n, check in enumerate(rules)],
        schema={"check": pl.Int32(), "field": pl.String(), "code": pl.String(), "reason": pl.String()},
        orient="row",
    )
    broken = pl.DataFrame(
        [(row.row, "", ReasonCode.UNREADABLE, row.reason) for row in raw.broken], schema=schema, orient="row"
    )
    return pl.concat([verdicts.join(named, on="check", how="left").select(schema.keys()), broken]).sort(ROW)


def interactions_of(fit: pl.DataFrame, mapping: InteractionMapping) -> pl.DataFrame:
    """Return ROW and the columns of CONTENT_SCHEMA, one row for each row of `fit`, in its order."""
    present = {name: cleansing.TYPED + f"interaction.{name}" for name in CONTENT_SCHEMA}
    columns = [
        (pl.col(source) if source in fit.columns else pl.lit(None)).cast(CONTENT_SCHEMA[name]).alias(name)
        for name, source in present.items()
    ]
    rows = fit.select(ROW, *columns).with_columns(pl.col("quantity").fill_null(1.0))
    return rows if mapping.event_id is not None else rows.with_columns(_content_digest(rows).alias("event_id"))


def _content_digest(rows: pl.DataFrame) -> pl.Series:
    """Return the 128-bit XXH3 of all other columns, as hex: equal rows are the same interaction."""
    parts = [
        (pl.col(name).dt.epoch("us") if name == "occurred_at" else pl.col(name)).cast(pl.String).fill_null("")
        for name in CONTENT_SCHEMA
        if name != "event_id"
    ]
    contents = rows.select(pl.concat_str(parts, separator="\x1f").alias("content")).get_column("content")
    return pl.Series([xxhash.xxh3_128_hexdigest(content.encode()) for content in contents], dtype=pl.String)


def items_of(fit: pl.DataFrame, mapping: Mapping, moment: datetime) -> list[Item]:
    """Return one update per item: each field's newest non-empty value, the later row among equal times."""
    if mapping.item is None:
        return []
    prefix = cleansing.TYPED + "item."
    fields = {column.removeprefix(prefix): column for column in fit.columns if column.startswith(prefix)}
    fields.setdefault("item_id", cleansing.TYPED + "interaction.item_id")
    at = fields.pop("updated_at", cleansing.TYPED + "interaction.occurred_at")
    # Rows without a time get one each, in their order, so that a later row wins in whatever batch it comes.
    in_order = pl.lit(moment).cast(pl.Datetime("us", "UTC")) + pl.duration(microseconds=pl.col(ROW))
    updated_at = (pl.col(at) if at in fit.columns else pl.lit(None)).cast(pl.Datetime("us", "UTC")).fill_null(in_order)
    rows = fit.select(pl.col(column).alias(name) for name, column in fields.items())
    rows = rows.with_columns(fit.select(updated_at.alias("updated_at"), ROW)).sort("updated_at", ROW).drop(ROW)
    newest = rows.group_by("item_id", maintain_order=True).agg(pl.all().drop_nulls().last())
    return [_item(row) for row in newest.iter_rows(named=True)]


def _item(row: dict[str, object]) -> Item:
    properties = {name.removeprefix("properties."): row.pop(name) for name in [*row] if name.startswith("properties.")}
    non_empty = {name: value for name, value in properties.items() if value is not None}
    return Item(**row, properties=non_empty or None)  # type: ignore[arg-type]  # typed by the expressions that made it
