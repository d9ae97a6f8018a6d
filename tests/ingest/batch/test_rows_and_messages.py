"""A row is accepted exactly when the message that says the same is: one set of rules serves both."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.batch.mapping import mapping_by_name
from ingest.batch.row_flow import map_rows
from ingest.batch.validation import checks
from ingest.settings import IngestSettings
from ingest.sources.rows import ROW, RawRows
from recsys.errors import InvalidInput
from recsys.messages import wire
from recsys.messages.limits import ReasonCode
from recsys.messages.validation import span_at_door, validate

MOMENT = datetime(2026, 11, 28, 12, tzinfo=UTC)
SETTINGS = IngestSettings()
SPAN = span_at_door(SETTINGS, MOMENT)
Fields = dict[str, Any]
Problem = tuple[str, str]

GOOD_INTERACTION: Fields = {
    "event_id": "e", "user_id": "ada", "item_id": "lamp", "type": "view", "occurred_at": MOMENT, "quantity": 1.0,
    "price": 2.5, "session_id": "s", "recommendation_id": "r",
}  # fmt: skip
GOOD_ITEM: Fields = {
    "item_id": "lamp", "updated_at": MOMENT, "title": "Lamp", "price": 2.5, "categories": ["light"], "available": True,
}  # fmt: skip

characters = st.characters(exclude_categories=["Cs"])
texts = st.one_of(
    st.text(characters, min_size=1, max_size=20),
    st.sampled_from(
        ["x" * 128, "x" * 129, "Ж" * 129, "a\nb", "a\u2028b", "a\x7fb", "a\x80b", "a\x9f", "Zoë", "x" * 2049]
    ),
)
types = st.one_of(texts, st.from_regex(r"\A[a-z][a-z0-9_]{0,32}\Z"), st.sampled_from(["View", "a" * 32, "a" * 33]))
moments = st.one_of(
    st.datetimes(datetime(1950, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001  # given one
    st.sampled_from([limit + timedelta(microseconds=n) for limit in (SPAN.earliest, SPAN.latest) for n in (-1, 0, 1)]),
    st.just("yesterday"),
)
numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, -1.0, 1e9, 1e9 + 1, 1e12, 1e12 + 1, 5e-324]),
    st.just("many"),
)
lists = st.one_of(
    st.lists(st.text(characters, max_size=5), min_size=1, max_size=4),
    st.sampled_from([["x"] * 64, ["x"] * 65, ["x" * 2048], ["x" * 2049], ["x", None]]),
)
BAD = {
    **dict.fromkeys(("event_id", "user_id", "item_id", "session_id", "recommendation_id", "title"), texts),
    "type": types,
    **dict.fromkeys(("occurred_at", "updated_at"), moments),
    **dict.fromkeys(("quantity", "price"), numbers),
    "categories": lists,
    "available": st.sampled_from([True, False, "perhaps"]),
}


def any_values(good: Fields) -> st.SearchStrategy[Fields]:
    """Each field good, anything, or left out."""
    return st.fixed_dictionaries({name: st.just(value) | BAD[name] | st.none() for name, value in good.items()})


def stripped(fields: Fields) -> Fields:
    """As cleansing takes the values: without space around, and empty ones left out."""
    names = [name for name, value in fields.items() if isinstance(value, str)]
    strips = pl.Series([fields[name] for name in names], dtype=pl.String).str.strip_chars()
    clean = fields | dict(zip(names, strips, strict=True))
    entries = clean.get("categories")
    if entries:
        clean["categories"] = pl.Series(entries, dtype=pl.String).str.strip_chars().to_list()
    return {name: value for name, value in clean.items() if value not in (None, "")}


def cell(value: object) -> str | None:
    match value:
        case datetime():
            return value.isoformat()
        case bool() | list():
            return msgspec.json.encode(value).decode()
        case None:
            return None
    return value if isinstance(value, str) else repr(value)


def problems_of_row(fields: Fields) -> tuple[list[Problem], list[Problem]]:
    """Every problem of the row, and the one that it is rejected for."""
    columns = {name: pl.Series([cell(value)], dtype=pl.String) for name, value in fields.items()}
    raw = RawRows(0, 1, pl.DataFrame({ROW: pl.Series([0], dtype=pl.Int64), **columns}))
    mapping = mapping_by_name(list(fields))
    mapped = map_rows(raw, mapping, MOMENT, SETTINGS)
    rules = checks(mapping, MOMENT, SETTINGS)
    every = [(check.field, str(check.code)) for check in rules if check.reason in mapped.problems]
    return every, mapped.rejected.select("field", "code").rows()


def problem_of_message(kind: str, fields: Fields) -> Problem | None:
    try:
        validate(wire.decode(msgspec.json.encode({"kind": kind} | stripped(fields))), SPAN)
    except InvalidInput as error:
        return error.field.split(".")[0], error.code
    return None


@pytest.mark.parametrize(("kind", "good"), [("interaction", GOOD_INTERACTION), ("item", GOOD_ITEM)])
def test_what_is_good_is_good_for_both(kind: str, good: Fields) -> None:
    assert (problem_of_message(kind, good), problems_of_row(good)) == (None, ([], []))


def hold(kind: str, good: Fields, fields: Fields) -> None:
    if kind == "item" and fields["updated_at"] is None:
        # An import fills it in.
        fields = fields | {"updated_at": MOMENT}
    every, rejected = problems_of_row(fields)
    refused = problem_of_message(kind, fields)
    assert (refused is None) == (not rejected) == (not every)
    if refused is not None:
        assert refused in every
        [(field, code)] = rejected
        # With this field alone as it is, the message is refused for the same reason.
        assert problem_of_message(kind, good | {field: fields[field]}) == (field, code)
        assert code in {*ReasonCode} - {ReasonCode.INVALID, ReasonCode.RULE}


@given(any_values(GOOD_INTERACTION))
def test_an_interaction_row_is_accepted_exactly_when_its_message_is(fields: Fields) -> None:
    hold("interaction", GOOD_INTERACTION, fields)


@given(any_values(GOOD_ITEM))
def test_an_item_row_is_accepted_exactly_when_its_message_is(fields: Fields) -> None:
    hold("item", GOOD_ITEM, fields)


@given(st.data())
def test_one_wrong_field_is_named_alike_with_the_same_code(data: st.DataObject) -> None:
    kind, good = data.draw(st.sampled_from([("interaction", GOOD_INTERACTION), ("item", GOOD_ITEM)]))
    name = data.draw(st.sampled_from(sorted(good)))
    fields = good | {name: data.draw(BAD[name])}
    every, rejected = problems_of_row(fields)
    refused = problem_of_message(kind, fields)
    assert rejected == ([] if refused is None else [refused])
    assert set(rejected) <= set(every)
