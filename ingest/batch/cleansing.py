"""Cleansing: polars expressions that turn columns of text into typed fields; null where there is no sense in it."""

import msgspec
import polars as pl

from ingest.batch.mapping import ColumnField, FlagField, ListField, NumberField, TextField, TimeField

ISO_FORMATS = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d")
TYPED = "#"
"""Before a field's path, it names the column of the field's typed value beside the raw columns."""
DIGITS_OF_EPOCH = {"epoch_s": 1_000_000, "epoch_ms": 1_000}
"""Epoch format -> microseconds per unit."""


def raw(field: ColumnField) -> pl.Expr:
    """Return the field's text as in the file, stripped; null where empty."""
    if field.value is not None:
        return pl.lit(field.value)
    return stripped(field.needed()[0])


def stripped(column: str) -> pl.Expr:
    """Return the text of `column` without surrounding space; null where empty."""
    text = pl.col(column).str.strip_chars()
    return pl.when(text != "").then(text)


def text(field: TextField) -> pl.Expr:
    """Return the text of the field: its columns joined, whole values replaced, case changed; null where empty."""
    joined = (
        pl.concat_str([stripped(name) for name in field.columns], separator=field.separator)
        if field.columns
        else raw(field)
    )
    if field.values:
        joined = joined.replace(field.values)
    if field.case is not None:
        joined = joined.str.to_uppercase() if field.case == "upper" else joined.str.to_lowercase()
    return joined


def number(field: NumberField) -> pl.Expr:
    """Return Float64; text that is no finite number becomes null."""
    digits = raw(field)
    if field.decimal == ",":
        digits = digits.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
    parsed = digits.cast(pl.Float64, strict=False)
    return pl.when(parsed.is_finite()).then(parsed)


def time(field: TimeField) -> pl.Expr:
    """Return a datetime in UTC; an hour skipped by summer time becomes null, a doubled hour is the first."""
    written = raw(field)
    if field.format in DIGITS_OF_EPOCH:
        scaled = written.cast(pl.Float64, strict=False) * DIGITS_OF_EPOCH[field.format]
        return scaled.round().cast(pl.Int64, strict=False).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    ways = [] if field.format is None or "%z" in field.format else [field.format]
    iso = written.str.replace(" ", "T", literal=True)
    naive = [written.str.to_datetime(way, time_unit="us", strict=False) for way in ways]
    naive += [iso.str.to_datetime(way, time_unit="us", strict=False) for way in ISO_FORMATS]
    local = pl.coalesce(naive).dt.replace_time_zone(field.time_zone, ambiguous="earliest", non_existent="null")
    offset = field.format if field.format is not None and "%z" in field.format else "%+"
    zoned = (written if offset != "%+" else iso).str.to_datetime(offset, time_unit="us", time_zone="UTC", strict=False)
    return pl.coalesce(local.dt.convert_time_zone("UTC"), zoned)


def texts(field: ListField) -> pl.Expr:
    """Return a list of text; null where empty or where a JSON array is malformed."""
    written = raw(field)
    from_json = written.map_batches(_arrays, return_dtype=pl.List(pl.String))
    listed = pl.when(written.str.starts_with("[")).then(from_json).otherwise(written.str.split(field.split))
    return listed.list.eval(pl.element().str.strip_chars())


def _arrays(written: pl.Series) -> pl.Series:
    """Parse cell by cell: polars rejects a whole column for one bad cell."""
    return pl.Series([_array(cell) if cell and cell[0] == "[" else None for cell in written], dtype=pl.List(pl.String))


def _array(cell: str) -> list[str | None] | None:
    try:
        values = msgspec.json.decode(cell, type=list[str | bool | int | float | None])
    except (msgspec.DecodeError, RecursionError):
        return None
    return [
        value if value is None or isinstance(value, str) else msgspec.json.encode(value).decode() for value in values
    ]


def flag(field: FlagField) -> pl.Expr:
    """Return a Boolean; null where the text is neither a yes nor a no."""
    word = raw(field).str.to_lowercase()
    return (
        pl.when(word.is_in(["true", "yes", "y", "1"]))
        .then(True)
        .when(word.is_in(["false", "no", "n", "0"]))
        .then(False)
    )


def typed(field: ColumnField) -> pl.Expr:
    """Return the expression for the field's kind; raises `TypeError` for an unknown kind of field."""
    match field:
        case TextField():
            return text(field)
        case NumberField():
            return number(field)
        case TimeField():
            return time(field)
        case ListField():
            return texts(field)
        case FlagField():
            return flag(field)
    raise TypeError(type(field).__name__)
