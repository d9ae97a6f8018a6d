"""JSON on the topic: what is unknown is kept, what is wrong is named, and nothing else ever happens."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import InvalidInput
from recsys.messages import wire
from recsys.messages.interaction import MAX_EXTRA_DEPTH, Interaction
from recsys.messages.wire import Message
from tests.recsys.messages.messages import EXTRAS, INTERACTIONS, MESSAGES

VIEW = {
    "kind": "interaction",
    "event_id": "e1",
    "user_id": "ada",
    "item_id": "lamp",
    "type": "view",
    "occurred_at": "2026-06-01T12:00:00Z",
}


def sent(**fields: Any) -> bytes:
    return msgspec.json.encode({**VIEW, **fields})


def refused(value: bytes) -> InvalidInput:
    with pytest.raises(InvalidInput) as refusal:
        wire.decode(value)
    return refusal.value


@given(MESSAGES)
def test_a_message_comes_back_as_it_was(message: Message) -> None:
    assert wire.decode(wire.encode(message)) == message
    assert wire.exact(wire.encode(message)) == message


def test_what_is_not_said_takes_no_room() -> None:
    view = Interaction(
        event_id="e", user_id="u", item_id="i", type="view", occurred_at=datetime(2026, 6, 1, tzinfo=UTC)
    )
    assert wire.encode(view) == (
        b'{"kind":"interaction","event_id":"e","user_id":"u","item_id":"i","type":"view","occurred_at":"2026-06-01T00:00:00Z"}'
    )


@given(INTERACTIONS, EXTRAS)
def test_fields_nobody_knows_are_kept_beside_those_that_came_as_extra(
    event: Interaction, unknown: dict[str, Any]
) -> None:
    named = {f"x-{name}": value for name, value in unknown.items()}
    message = wire.decode(msgspec.json.encode({**msgspec.to_builtins(event), **named}))
    assert isinstance(message, Interaction)
    expected = event.extra if not named else {**(event.extra or {}), **named}
    assert message == msgspec.structs.replace(event, extra=expected)


def test_an_item_has_properties_for_its_own_and_what_else_it_says_is_ignored() -> None:
    item = b'{"kind":"item","item_id":"i","updated_at":"2026-06-01T12:00:00Z","colour":"red"}'
    assert wire.decode(item) == wire.decode(item.replace(b',"colour":"red"', b""))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"event_id": ""}, "event_id"),
        ({"type": "Not A Type"}, "type"),
        ({"occurred_at": "2026-06-01T12:00:00"}, "occurred_at"),
        ({"occurred_at": 1780000000}, "occurred_at"),
        ({"quantity": 0, "page": "/"}, "quantity"),
        ({"price": -1}, "price"),
        ({"kind": "rumour"}, "kind"),
        ({"kind": ["interaction"]}, "kind"),
        ({"extra": 1, "page": "/"}, "extra"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], named: str) -> None:
    assert refused(sent(**fields)).field == named


@pytest.mark.parametrize("name", VIEW)
def test_a_field_that_is_missing_is_named(name: str) -> None:
    fields = {key: value for key, value in VIEW.items() if key != name}
    assert refused(msgspec.json.encode(fields)).field == name


def test_nesting_without_end_is_refused_and_not_followed() -> None:
    deep = b"[" * 30_000 + b"]" * 30_000
    for field in (b"x", b"extra", b"price"):
        assert "nested too deeply" in refused(sent()[:-1] + b',"' + field + b'":' + deep + b"}").reason


@pytest.mark.parametrize("name", ["extra", "x"])
def test_extras_are_kept_to_a_depth_that_every_reader_can_follow(name: str) -> None:
    def nested(levels: int) -> dict[str, Any]:
        value: dict[str, Any] = {}
        for _ in range(levels - 1):
            value = {"a": value}
        return value

    inner = MAX_EXTRA_DEPTH - (name != "extra")
    assert isinstance(wire.decode(sent(**{name: nested(inner)})), Interaction)
    assert refused(sent(**{name: nested(inner + 1)})).field == "extra"


@pytest.mark.parametrize("value", [b"", b"null", b"[]", b'"text"', b"{", b"{}", b"\xff", b'{"kind":', sent(x=1)[:-1]])
def test_what_is_no_message_is_refused(value: bytes) -> None:
    assert refused(value).field in {"message", "kind"}


def test_a_message_has_a_size_limit() -> None:
    assert "more than" in refused(sent(x="x" * wire.MAX_MESSAGE_BYTES)).reason


@given(
    st.sampled_from([*VIEW, "extra", "price", "quantity", "x"]),
    st.sampled_from(
        [b"1e999", b"1" * 400, b"1" * 5000, b"NaN", b'"\xff"', b'"\\ud800"', b"{}", b'[{"a":null}]', b"true"]
    ),
)
def test_a_message_is_read_or_refused_whatever_a_value_is(name: str, value: bytes) -> None:
    raw = {key: msgspec.Raw(msgspec.json.encode(one)) for key, one in VIEW.items()} | {name: msgspec.Raw(value)}
    try:
        message = wire.decode(msgspec.json.encode(raw))
    except InvalidInput:
        return
    assert wire.decode(wire.encode(message)) == message
