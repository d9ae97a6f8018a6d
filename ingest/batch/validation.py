"""Checks of a batch of rows, as polars expressions made of the limits of the messages that the rows become."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from ingest.batch import cleansing
from ingest.batch.mapping import ColumnField, FlagField, ListField, Mapping, NumberField, TextField, TimeField
from ingest.settings import IngestSettings
from recsys.messages.interaction import ID_PATTERN, Interaction
from recsys.messages.item import Item
from recsys.messages.limits import FieldLimits, ReasonCode, field_limits
from recsys.messages.validation import TimeSpan, span_at_door

LIMITS = {
    f"{section}.{name}": limits
    for section, message_type in (("interaction", Interaction), ("item", Item))
    for name, limits in field_limits(message_type).items()
}
"""Field path -> limits; an item's own properties have none of their own."""
FILLED_IN = ("item.updated_at",)
"""Fields that an import fills in where a row says nothing."""
WORDS = {
    TimeField: "is no time",
    NumberField: "is no number",
    FlagField: "is neither yes nor no",
    ListField: "is no list",
}


@dataclass(frozen=True, slots=True)
class Check:
    """`wrong` is true for the rows to reject, over raw columns and the typed columns named by field path."""

    field: str
    code: ReasonCode
    reason: str
    wrong: pl.Expr


def checks(mapping: Mapping, moment: datetime, settings: IngestSettings) -> list[Check]:
    """Return every check of a mapping; the first that fails gives a row its reason."""
    span = span_at_door(settings, moment)
    all_checks = [
        Check(rule.column, ReasonCode.RULE, rule.reason, cleansing.stripped(rule.column).str.contains(rule.matches))
        for rule in mapping.reject
    ]
    for path, field in mapping.fields():
        all_checks += _checks_of(path, field, span)
    return all_checks


def _checks_of(path: str, field: ColumnField, span: TimeSpan) -> Iterator[Check]:
    name = path.split(".", 1)[1]
    limits = LIMITS.get(path, FieldLimits())
    value = pl.col(cleansing.TYPED + path)
    written = value if isinstance(field, TextField) else cleansing.raw(field)
    if limits.required and path not in FILLED_IN:
        yield Check(name, ReasonCode.MISSING, f"{name} is missing", written.is_null())
    if type(field) in WORDS:
        reason = f"{name} {WORDS[type(field)]}"
        yield Check(name, ReasonCode.WRONG_TYPE, reason, written.is_not_null() & value.is_null())
    match field:
        case TextField():
            yield from _text_checks(name, field, limits, value)
        case NumberField():
            yield from _number_checks(name, field, limits, value)
        case TimeField():
            for code, wrong in (
                (ReasonCode.IN_FUTURE, value > span.latest),
                (ReasonCode.TOO_OLD, value < span.earliest),
            ):
                yield Check(name, code, f"{name} is {span.reason(code)}", wrong)
        case ListField():
            yield from _list_checks(name, limits, value)


def _text_checks(name: str, field: TextField, limits: FieldLimits, value: pl.Expr) -> Iterator[Check]:
    if limits.max_length is not None:
        reason = f"{name} is longer than {limits.max_length} characters"
        yield Check(name, ReasonCode.TOO_LONG, reason, value.str.len_chars() > limits.max_length)
    if limits.pattern is not None:
        words = "has control characters" if limits.pattern == ID_PATTERN else f"does not match {limits.pattern}"
        yield Check(name, ReasonCode.PATTERN, f"{name} {words}", ~value.str.contains(limits.pattern))
    if field.must_match is not None:
        reason = field.reason or f"{name} does not match {field.must_match}"
        yield Check(name, ReasonCode.RULE, reason, ~value.str.contains(field.must_match))


def _number_checks(name: str, field: NumberField, limits: FieldLimits, value: pl.Expr) -> Iterator[Check]:
    lowest = limits.least if limits.above is None else limits.above
    if field.above is not None and (lowest is None or field.above >= lowest):
        # The mapping's own rule says it all: one problem of a row is one reason.
        yield Check(name, ReasonCode.TOO_SMALL, f"{name} is not above {field.above:g}", value <= field.above)
    elif limits.above is not None:
        yield Check(name, ReasonCode.TOO_SMALL, f"{name} is not above {limits.above:g}", value <= limits.above)
    elif limits.least is not None:
        words = "is negative" if limits.least == 0 else f"is below {limits.least:g}"
        yield Check(name, ReasonCode.TOO_SMALL, f"{name} {words}", value < limits.least)
    if limits.most is not None:
        yield Check(name, ReasonCode.TOO_LARGE, f"{name} is above {limits.most:g}", value > limits.most)


def _list_checks(name: str, limits: FieldLimits, value: pl.Expr) -> Iterator[Check]:
    if limits.max_length is not None:
        reason = f"{name} has more than {limits.max_length} entries"
        yield Check(name, ReasonCode.TOO_MANY, reason, value.list.len() > limits.max_length)
    empty = value.list.eval(pl.element().is_null()).list.any()
    yield Check(name, ReasonCode.WRONG_TYPE, f"{name} has an entry that is no text", empty)
    longest = None if limits.entry is None else limits.entry.max_length
    if longest is not None:
        too_long = value.list.eval(pl.element().str.len_chars() > longest).list.any()
        yield Check(name, ReasonCode.TOO_LONG, f"{name} has an entry longer than {longest} characters", too_long)
