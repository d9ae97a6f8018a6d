"""What every table of dead letters does with rows, whatever it is kept in."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import msgspec
import polars as pl

from recsys.stores.dead_letters.protocol import MAX_REASON, Content, DeadLetter, LetterQuery, Refusal, Status

LETTER_SCHEMA: dict[str, pl.DataType] = {
    "letter": pl.String(),
    "times_seen": pl.Int32(),
    "status": pl.String(),
    "at": pl.Datetime("us", "UTC"),
    "by": pl.String(),
    "why": pl.String(),
    "reason": pl.String(),
    "field": pl.String(),
    "partition": pl.String(),
    "offset": pl.Int64(),
    "size": pl.Int64(),
    "key": pl.String(),
    "headers": pl.Binary(),
    "value": pl.Binary(),
}
"""One row for each thing that happened to a letter: it was refused (and waits), replayed or discarded.

`partition` and `offset` are its first place. Rows are only ever added, and say the same when they are added
twice; a replay or discard speaks of the letter as it was seen that many times. So no two writers can undo what
the other did, and clocks that differ do no harm.
"""
LIFE = pl.Enum([status.value for status in Status])
CONTENT = ("key", "headers", "value")
"""The columns of a refusal that a discard empties."""
HAPPENING = ("letter", "times_seen", "status")


def refusal_rows(refusals: Iterable[Refusal]) -> pl.DataFrame:
    """Refusals as rows of LETTER_SCHEMA, each happening once."""
    rows = [
        (
            refusal.letter,
            refusal.times_seen,
            Status.WAITING.value,
            refusal.at.astimezone(UTC),
            None,
            None,
            _printable(refusal.reason),
            _printable(refusal.field),
            *refusal.origin,
            len(refusal.value),
            _printable(refusal.key, None),
            msgspec.json.encode(refusal.headers),
            refusal.value,
        )
        for refusal in refusals
    ]
    return pl.DataFrame(rows, schema=LETTER_SCHEMA, orient="row").unique(HAPPENING, keep="first", maintain_order=True)


def decision_rows(
    letters: Sequence[DeadLetter], status: Status, at: datetime, by: str, comment: str | None
) -> pl.DataFrame:
    """Replays or discards of `letters` as rows of LETTER_SCHEMA, without their content."""
    by, comment = _printable(by), None if comment is None else _printable(comment)
    rows = [
        (letter.letter, letter.times_seen, status.value, at.astimezone(UTC), by, comment)
        + (letter.reason, letter.field, letter.partition, letter.offset, letter.size)
        + (None,) * len(CONTENT)
        for letter in letters
    ]
    return pl.DataFrame(rows, schema=LETTER_SCHEMA, orient="row")


def near(rows: pl.LazyFrame, places: pl.DataFrame) -> pl.LazyFrame:
    """`rows` that may be of the same letters as `places`: a filter that lets most files be skipped."""
    offsets = places.get_column("offset")
    return rows.filter(pl.col("offset").is_between(pl.lit(offsets.min()), pl.lit(offsets.max())))


def chosen(rows: pl.LazyFrame, query: LetterQuery) -> pl.DataFrame:
    """The folded letters that `query` asks for, those seen last first."""
    letters = folded(rows)
    if query.status is not None:
        letters = letters.filter(status=query.status.value)
    if query.reason:
        letters = letters.filter(pl.col("reason").str.to_lowercase().str.contains(query.reason.lower(), literal=True))
    if query.field:
        letters = letters.filter(field=query.field)
    if query.since is not None:
        letters = letters.filter(pl.col("last_seen") >= query.since)
    if query.ids:
        letters = letters.filter(
            pl.any_horizontal([pl.col("letter").str.starts_with(beginning) for beginning in query.ids])
        )
    if query.keys:
        letters = letters.filter(pl.col("key").is_in(list(query.keys)))
    newest = letters.sort("last_seen", "partition", "offset", descending=[True, False, False])
    return (newest if query.limit is None else newest.head(query.limit)).collect()


def folded(rows: pl.LazyFrame) -> pl.LazyFrame:
    """One row per letter: the last thing that happened to it as it was seen last."""
    refused_at = pl.col("at").filter(status=Status.WAITING.value)
    decided = pl.col("status") != Status.WAITING.value
    return (
        rows.sort("times_seen", pl.col("status").cast(LIFE))
        .group_by("letter", maintain_order=True)
        .agg(
            pl.last("status", "reason", "field", "partition", "offset", "size", "times_seen"),
            pl.col("key", "by", "why").drop_nulls().last(),
            changed_at=pl.col("at").filter(decided).last(),
            first_seen=pl.coalesce(refused_at.min(), pl.col("at").min()),
            last_seen=pl.coalesce(refused_at.max(), pl.col("at").max()),
        )
    )


def dead_letters_of(rows: pl.DataFrame) -> list[DeadLetter]:
    """Folded rows as letters."""
    return [DeadLetter(**{**row, "status": Status(row["status"])}) for row in rows.iter_rows(named=True)]


def contents(rows: pl.LazyFrame, letters: Sequence[DeadLetter]) -> dict[str, Content]:
    """The messages of `letters` by id, without those whose bytes are erased."""
    if not letters:
        return {}
    places = pl.DataFrame(
        {"letter": [letter.letter for letter in letters], "offset": [letter.offset for letter in letters]}
    )
    messages = (
        near(rows, places)
        .filter(pl.col("value").is_not_null(), pl.col("letter").is_in(places.get_column("letter").to_list()))
        .select("letter", *CONTENT)
        .unique("letter", keep="any")
        .collect()
    )
    decode = msgspec.json.Decoder(dict[str, bytes]).decode
    return {letter: Content(key or "", decode(headers), value) for letter, key, headers, value in messages.iter_rows()}


def discarded(rows: pl.LazyFrame) -> pl.DataFrame:
    """The letters whose messages are to be erased, and how often each was seen by then."""
    discarded = rows.filter(status=Status.DISCARDED.value).group_by("letter").agg(pl.max("times_seen"))
    held = rows.filter(pl.col("value").is_not_null()).select("letter", held="times_seen")
    return (
        discarded.join(held, on="letter")
        .filter(pl.col("held") <= pl.col("times_seen"))
        .select("letter", "times_seen")
        .unique()
        .collect()
    )


def _printable(text: str, length: int | None = MAX_REASON) -> str:
    return text[:length].encode("utf-8", "replace").decode()
