"""Checks of a batch of rows, as polars expressions: `recsys.messages.validation` and the limits of each field."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from ingest.batch import cleansing
from ingest.batch.mapping import ColumnField, FlagField, Mapping, NumberField, TextField, TimeField
from ingest.settings import IngestSettings
from recsys.messages.interaction import MAX_ID_LENGTH, TYPE_PATTERN

REQUIRED = {"interaction": ("event_id", "user_id", "item_id", "type", "occurred_at"), "item": ("item_id",)}
"""Fields that must not be empty in a mapped row."""
IDS = ("event_id", "user_id", "item_id", "session_id", "recommendation_id")
MAX_TEXT = 2048
MAX_LIST = 64
MAX_QUANTITY = 1e9
MAX_PRICE = 1e12
CONTROL_CHARACTERS = r"[\x00-\x1f\x7f-\x9f\x{2028}\x{2029}]"
"""What `ID_PATTERN` forbids, as a search that polars runs."""


@dataclass(frozen=True, slots=True)
class Check:
    """`wrong` is true for the rows to reject, over raw columns and the typed columns named by field path."""

    field: str
    reason: str
    wrong: pl.Expr


def checks(mapping: Mapping, moment: datetime, settings: IngestSettings) -> list[Check]:
    """Return every check of a mapping; the first that fails gives a row its reason."""
    all_checks = [
        Check(rule.column, rule.reason, cleansing.stripped(rule.column).str.contains(rule.matches))
        for rule in mapping.reject
    ]
    for path, field in mapping.fields():
        all_checks += _checks_of(path, field, moment, settings)
    return all_checks


def _checks_of(path: str, field: ColumnField, moment: datetime, settings: IngestSettings) -> Iterator[Check]:
    section, name = path.split(".", 1)
    value, written = (
        pl.col(cleansing.TYPED + path),
        pl.lit(None) if isinstance(field, TextField) else cleansing.raw(field),
    )
    if name in REQUIRED[section]:
        yield Check(name, f"{name} is missing", value.is_null() if isinstance(field, TextField) else written.is_null())
    match field:
        case TextField():
            yield from _text_checks(name, field, value)
        case NumberField():
            yield from _number_checks(name, field, value, written)
        case TimeField():
            latest = moment + timedelta(seconds=settings.future_tolerance)
            yield Check(name, f"{name} is no time", written.is_not_null() & value.is_null())
            yield Check(name, f"{name} is in the future", value > latest)
            yield Check(name, f"{name} is before {settings.earliest.date()}", value < settings.earliest)
        case FlagField():
            yield Check(name, f"{name} is neither yes nor no", written.is_not_null() & value.is_null())
        case _:
            yield Check(name, f"{name} is no list", written.is_not_null() & value.is_null())
            yield Check(name, f"{name} has more than {MAX_LIST} entries", value.list.len() > MAX_LIST)
            too_long = value.list.eval(pl.element().str.len_chars() > MAX_TEXT).list.any()
            yield Check(name, f"{name} has an entry longer than {MAX_TEXT} characters", too_long)


def _text_checks(name: str, field: TextField, value: pl.Expr) -> Iterator[Check]:
    if name in IDS:
        yield Check(name, f"{name} is longer than {MAX_ID_LENGTH} characters", value.str.len_chars() > MAX_ID_LENGTH)
        yield Check(name, f"{name} has control characters", value.str.contains(CONTROL_CHARACTERS))
    elif name == "type":
        yield Check(name, f"type does not match {TYPE_PATTERN}", ~value.str.contains(TYPE_PATTERN))
    else:
        yield Check(name, f"{name} is longer than {MAX_TEXT} characters", value.str.len_chars() > MAX_TEXT)
    if field.must_match is not None:
        reason = field.reason or f"{name} does not match {field.must_match}"
        yield Check(name, reason, ~value.str.contains(field.must_match))


def _number_checks(name: str, field: NumberField, value: pl.Expr, written: pl.Expr) -> Iterator[Check]:
    yield Check(name, f"{name} is no number", written.is_not_null() & value.is_null())
    above = 0.0 if field.above is None and name == "quantity" else field.above
    if above is None:
        yield Check(name, f"{name} is negative", value < 0)
    else:
        yield Check(name, f"{name} is not above {above:g}", value <= above)
    limit = MAX_QUANTITY if name == "quantity" else MAX_PRICE
    yield Check(name, f"{name} is above {limit:g}", value > limit)
