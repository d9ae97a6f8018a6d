"""The envelope of a message: headers that say what its bytes are, and the way from there to the current version.

`schema-version` is a number; a message without it is of version 1, as all were before there were versions.
`content-type` is `application/json` unless it says otherwise. Both names are in lower case.
"""

from collections.abc import Callable, Mapping
from typing import Any

from recsys.errors import InvalidInput
from recsys.messages import avro, protobuf, wire
from recsys.messages.upgrades import FIRST_VERSION, upgraded
from recsys.messages.wire import VERSION, Message

CONTENT_TYPE = "content-type"
SCHEMA_VERSION = "schema-version"
JSON = "application/json"
AVRO = "application/avro"
PROTOBUF = "application/x-protobuf"

HEADERS: Mapping[str, bytes] = {SCHEMA_VERSION: str(VERSION).encode()}
"""Headers of the bytes that `wire.encode` makes; as few as possible, since every event carries them."""

_NONE: Mapping[str, bytes] = {}
_AS_IS = (HEADERS[SCHEMA_VERSION], None, str(FIRST_VERSION).encode())
"""Versions of which a message that is exactly as the current one has it means the same."""
_PLAIN = (None, JSON.encode())
_BINARY: Mapping[str, Callable[[bytes], dict[str, Any]]] = {
    AVRO: avro.fields_of,
    PROTOBUF: protobuf.fields_of,
}


def decode(value: bytes, headers: Mapping[str, bytes] = _NONE) -> Message:
    """The message in the current version's words. Raises `InvalidInput` naming the field or header; nothing else."""
    plain = headers.get(CONTENT_TYPE) in _PLAIN
    if plain and headers.get(SCHEMA_VERSION) in _AS_IS and (message := wire.exact(value)) is not None:
        return message
    version = _version(headers)
    read = None if plain else _BINARY.get(_content_type(headers))
    if read is not None:
        message = wire.message_of(_binary_fields(value, version, read))
        # What is kept of it is JSON, where a character may take six bytes.
        wire.check_size(wire.encode(message))
        return message
    wire.check_size(value)
    return wire.message_of(upgraded(wire.fields_of(value), version or FIRST_VERSION))


def _binary_fields(value: bytes, version: int | None, read: Callable[[bytes], dict[str, Any]]) -> dict[str, Any]:
    """Bytes that do not name their fields are read by the very schema they were written with, or not at all."""
    if version != VERSION:
        raise InvalidInput(SCHEMA_VERSION, f"must say {VERSION}: binary formats begin with this version")
    wire.check_size(value)
    return read(value)


def _version(headers: Mapping[str, bytes]) -> int | None:
    stated = headers.get(SCHEMA_VERSION)
    if stated is None:
        return None
    text = stated.decode("latin-1").strip()
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) >= FIRST_VERSION):
        raise InvalidInput(SCHEMA_VERSION, f"{text[:64]!r} is no version: send a number such as {VERSION}")
    if int(text) > VERSION:
        raise InvalidInput(
            SCHEMA_VERSION, f"{text} is newer than {VERSION}, the newest known here: upgrade, then replay this message"
        )
    return int(text)


def _content_type(headers: Mapping[str, bytes]) -> str:
    """Without its parameters. Raises `InvalidInput` for one that cannot be read here."""
    stated = headers[CONTENT_TYPE].decode("latin-1")
    name = stated.partition(";")[0].strip().lower()
    if name != JSON and name not in _BINARY:
        raise InvalidInput(CONTENT_TYPE, f"{stated[:64]!r} is none of {', '.join((JSON, *_BINARY))}")
    return name
