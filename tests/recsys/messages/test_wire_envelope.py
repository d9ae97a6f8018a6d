"""The envelope: versions are upgraded, formats are read, and whatever else comes is refused by name."""

import math
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import InvalidInput
from recsys.messages import avro, envelope, protobuf, wire
from recsys.messages.envelope import AVRO, CONTENT_TYPE, HEADERS, PROTOBUF, SCHEMA_VERSION
from recsys.messages.interaction import Interaction
from recsys.messages.item import Item
from recsys.messages.upgrades import upgraded
from recsys.messages.wire import VERSION, Message
from tests.recsys.messages.messages import INTERACTIONS, MESSAGES

AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
VIEW = Interaction(event_id="e1", user_id="ada", item_id="lamp", type="view", occurred_at=AT)
TRACKED = {"eventId": "e1", "userId": "ada", "itemId": "lamp", "eventType": "view"}
BINARY: dict[str, Callable[[Message], bytes]] = {AVRO: avro.encode, PROTOBUF: protobuf.encode}


def headers(content_type: str, version: str = str(VERSION)) -> dict[str, bytes]:
    return {CONTENT_TYPE: content_type.encode(), SCHEMA_VERSION: version.encode()}


def refused(value: bytes, stated: dict[str, bytes]) -> InvalidInput:
    with pytest.raises(InvalidInput) as refusal:
        envelope.decode(value, stated)
    return refusal.value


@given(MESSAGES)
def test_a_message_means_the_same_with_and_without_headers(message: Message) -> None:
    value = wire.encode(message)
    assert envelope.decode(value, HEADERS) == message
    assert envelope.decode(value) == message
    assert envelope.decode(value, {SCHEMA_VERSION: b"1"}) == message


@given(INTERACTIONS)
def test_an_upgrade_leaves_alone_what_is_of_the_current_version_already(event: Interaction) -> None:
    fields = msgspec.json.decode(wire.encode(event))
    assert upgraded(dict(fields), 1) == fields


@pytest.mark.parametrize(
    "time",
    [
        {"timestamp": "2026-06-01T12:00:00Z"},
        {"sentAt": AT.timestamp()},
        {"occurredAt": "2026-06-01T14:00:00+02:00"},
        {"occurred_at": int(AT.timestamp()) * 1000},
        {"timestamp": int(AT.timestamp()) * 1_000_000},
    ],
)
def test_the_first_version_has_the_names_and_clocks_of_trackers(time: dict[str, Any]) -> None:
    value = msgspec.json.encode({**TRACKED, **time})
    assert envelope.decode(value) == VIEW
    assert envelope.decode(value, {SCHEMA_VERSION: b"1", CONTENT_TYPE: b"application/json; charset=utf-8"}) == VIEW
    assert refused(value, dict(HEADERS)).field == "kind"


def test_an_item_of_the_first_version_has_its_own_time() -> None:
    value = b'{"kind":"item","itemId":"lamp","timestamp":1780315200,"title":"A lamp"}'
    assert envelope.decode(value) == Item(item_id="lamp", updated_at=AT, title="A lamp")


def test_a_field_under_its_own_name_has_the_say_and_the_other_is_kept() -> None:
    value = msgspec.json.encode({**msgspec.to_builtins(VIEW), "event_type": "click", "extra": 7, "sessionId": "s"})
    extra = {"event_type": "click", "extra": 7}
    assert envelope.decode(value) == msgspec.structs.replace(VIEW, session_id="s", extra=extra)


@pytest.mark.parametrize("time", [True, -1, 1e17, 1e300, None, [], "yesterday"])
def test_a_clock_that_cannot_be_read_is_named(time: object) -> None:
    assert refused(msgspec.json.encode({**TRACKED, "timestamp": time}), {}).field == "occurred_at"


def test_a_newer_version_is_refused_with_what_to_do() -> None:
    refusal = refused(wire.encode(VIEW), headers("application/json", str(VERSION + 1)))
    assert refusal.field == SCHEMA_VERSION
    assert refusal.reason == "3 is newer than 2, the newest known here: upgrade, then replay this message"


@pytest.mark.parametrize("version", ["", "0", "-1", "2.0", "two", "\u0662", "9" * 5000, "\x00"])
def test_what_is_no_version_is_refused(version: str) -> None:
    refusal = refused(wire.encode(VIEW), headers("application/json", version))
    assert refusal.field == SCHEMA_VERSION
    assert len(refusal.reason) < 200


@pytest.mark.parametrize("content_type", ["", "text/csv", "application/jsonx", "\xff" * 5000])
def test_a_format_nobody_reads_here_is_refused(content_type: str) -> None:
    refusal = refused(wire.encode(VIEW), {CONTENT_TYPE: content_type.encode("latin-1")})
    assert refusal.field == CONTENT_TYPE
    assert len(refusal.reason) < 300


@pytest.mark.parametrize("content_type", BINARY)
@given(message=MESSAGES)
def test_every_kind_comes_back_from_binary_as_it_was(content_type: str, message: Message) -> None:
    assert envelope.decode(BINARY[content_type](message), headers(content_type)) == message


@pytest.mark.parametrize("content_type", BINARY)
@pytest.mark.parametrize("version", [None, b"1"])
def test_bytes_that_do_not_name_their_fields_need_their_version(content_type: str, version: bytes | None) -> None:
    stated = {CONTENT_TYPE: content_type.encode()} | ({} if version is None else {SCHEMA_VERSION: version})
    assert refused(BINARY[content_type](VIEW), stated).field == SCHEMA_VERSION


@pytest.mark.parametrize("content_type", BINARY)
@given(message=MESSAGES, data=st.data())
def test_damaged_binary_is_read_or_refused_and_nothing_else(
    content_type: str, message: Message, data: st.DataObject
) -> None:
    value = bytearray(BINARY[content_type](message))
    for place in data.draw(st.lists(st.integers(0, len(value) - 1), max_size=4)):
        value[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(value)))
    with suppress(InvalidInput):
        message = envelope.decode(bytes(value[:cut]), headers(content_type))
        assert wire.decode(wire.encode(message)) == message


@given(
    st.binary(max_size=300),
    st.sampled_from([None, "application/json", AVRO, PROTOBUF]),
    st.sampled_from([None, "1", "2", "3", "x"]),
)
def test_no_bytes_raise_anything_but_a_refusal(value: bytes, content_type: str | None, version: str | None) -> None:
    stated = {CONTENT_TYPE: content_type, SCHEMA_VERSION: version}
    with pytest.raises(InvalidInput):
        envelope.decode(value, {name: one.encode() for name, one in stated.items() if one is not None})


def test_a_number_that_is_none_is_refused_in_every_format() -> None:
    encoded = avro.encode(msgspec.structs.replace(VIEW, price=math.nan))
    assert refused(encoded, headers(AVRO)).field == "price"
    item = Item(item_id="i", updated_at=AT, properties={"margin": math.inf})
    assert refused(avro.encode(item), headers(AVRO)).field == "margin"
    message = protobuf.message_class().FromString(protobuf.encode(VIEW))
    message.interaction.price = math.nan
    assert refused(message.SerializeToString(), headers(PROTOBUF)).field == "price"


def test_bytes_left_over_are_no_avro() -> None:
    assert "left over" in refused(avro.encode(VIEW) + b"\x00", headers(AVRO)).reason


def test_a_protobuf_of_no_kind_is_refused() -> None:
    assert "is none of Interaction, Item, Erasure, Merge" in refused(b"", headers(PROTOBUF)).reason


@pytest.mark.parametrize(("content_type", "module"), [(AVRO, "fastavro"), (PROTOBUF, "google.protobuf")])
def test_a_library_that_is_not_there_is_asked_for_by_its_extra(
    content_type: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = BINARY[content_type](VIEW)
    monkeypatch.setitem(sys.modules, module, None)
    assert "pip install 'millirec[ingest]'" in refused(value, headers(content_type)).reason
