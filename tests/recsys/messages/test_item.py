"""Items merge within bounds, and whatever was stored of one can be read."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import InvalidInput
from recsys.messages.item import MAX_PROPERTIES, MAX_PROPERTIES_BYTES, Item, hidden_item, merged, readable, stored_item

NOW = datetime(2026, 3, 1, tzinfo=UTC)
FULL = {f"p{n}": float(n) for n in range(MAX_PROPERTIES)}


def item(minutes: int = 0, **fields: Any) -> Item:
    return Item(item_id="a", updated_at=NOW + timedelta(minutes=minutes), **fields)


def test_a_property_too_many_is_refused_whenever_it_comes() -> None:
    known = item(properties=FULL, available=False)
    for minutes in (-1, 0, 1):
        with pytest.raises(InvalidInput, match="properties: would be 65 with the 1 that are new"):
            merged(known, item(minutes, properties={"more": True}))


def test_an_item_with_as_many_properties_as_there_may_be_takes_new_values_and_all_else() -> None:
    known = item(properties=FULL, available=False)
    changed = merged(merged(known, item(1, properties={"p0": "new"})), item(2, price=3.0, title="Lamp"))
    assert changed == item(2, properties={**FULL, "p0": "new"}, available=False, price=3.0, title="Lamp")


def test_properties_that_would_take_too_many_bytes_are_refused() -> None:
    half = {"a": ["x" * 1000] * 40}
    known = merged(None, item(properties=half))
    with pytest.raises(InvalidInput, match=f"bytes as JSON, {MAX_PROPERTIES_BYTES} are allowed"):
        merged(known, item(1, properties={"b": half["a"]}))
    assert merged(known, item(1, properties={"a": half["a"]})).properties == half


def test_what_was_stored_under_wider_bounds_is_read_and_takes_what_does_not_make_it_larger() -> None:
    raw = msgspec.json.encode(item(properties={**FULL, "p64": 64.0, "p65": 65.0}, available=False))
    known = stored_item(raw)
    assert (len(known.properties or {}), known.available) == (66, False)
    assert merged(known, item(1, price=1.0)).available is False
    assert readable(merged(known, item(1, properties={"p0": "new"})))
    with pytest.raises(InvalidInput, match="properties"):
        merged(known, item(1, properties={"p66": 1.0}))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"properties": {"good": 1.0, "bad": None, "worse": [1, 2]}}, {"properties": {"good": 1.0}}),
        ({"properties": [1]}, {"properties": {}}),
        ({"title": "x" * 5000}, {"title": "x" * 5000}),
        ({"title": 5, "price": "much", "categories": "all"}, {}),
        ({"price": -1}, {"price": -1.0}),
        ({"available": "no"}, {"available": False}),
        ({"available": True, "price": []}, {"available": True}),
    ],
)
def test_a_field_that_cannot_be_read_costs_that_field_alone(change: dict[str, Any], found: dict[str, Any]) -> None:
    fields = {"kind": "item", "item_id": "a", "updated_at": NOW.isoformat(), **change}
    assert stored_item(msgspec.json.encode(fields)) == item(**found)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"a"',
        b'{"item_id": "a"}',
        b'{"item_id": 1, "updated_at": 2}',
        b"\xff",
        b"[" * 99_999,
    ],
)
def test_what_is_no_item_at_all_is_a_value_error(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        stored_item(raw)


def test_what_stands_in_for_a_damaged_record_is_hidden() -> None:
    assert hidden_item("a").available is False
    assert readable(hidden_item("a"))


values = st.one_of(st.text(max_size=20), st.floats(allow_nan=False, allow_infinity=False), st.booleans())
names = st.integers(0, 80).map("p{}".format)
updates = st.builds(
    item,
    st.integers(-5, 5),
    title=st.none() | st.text(max_size=20),
    price=st.none() | st.floats(0, 1e12),
    categories=st.none() | st.lists(st.text(max_size=5), max_size=4),
    available=st.none() | st.booleans(),
    properties=st.none() | st.dictionaries(names, values | st.lists(st.text(max_size=5), max_size=3), max_size=64),
)


@given(st.lists(updates, max_size=12))
def test_whatever_updates_are_accepted_what_they_make_can_be_read(sequence: list[Item]) -> None:
    state: Item | None = None
    for update in sequence:
        try:
            state = merged(state, update)
        except InvalidInput:
            continue
        assert readable(state)
        assert stored_item(msgspec.json.encode(state)) == state
        assert set(update.properties or {}) <= set(state.properties or {})
