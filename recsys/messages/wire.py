"""How messages of the current version look on the interaction topic: one JSON object each, told apart by `kind`.

What else may stand there (older versions, Avro, Protobuf) is `recsys.messages.envelope`'s.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from recsys.errors import InvalidInput
from recsys.messages.interaction import MAX_EXTRA_DEPTH, Erasure, Interaction, Merge
from recsys.messages.item import Item
from recsys.messages.limits import reason_code

Message = Interaction | Item | Erasure | Merge
VERSION = 2
"""Of what is written here; `recsys.messages.envelope` reads older ones too."""
MAX_MESSAGE_BYTES = 64 * 1024
MAX_QUOTED = 300
OWN_FIELD = re.compile(r"([a-z_]+(?:\.\w+)*): (.*)", re.DOTALL)
WHOLE_NAMES = ("message", "body", "query")
"""Stand for all of it, and so are no part of a field's path."""

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Message)
_fields_decoder = msgspec.json.Decoder(dict[str, Any])
_INTERACTION_FIELDS = frozenset(field.name for field in msgspec.structs.fields(Interaction)) | {"kind"}


def encode(message: Message) -> bytes:
    """`message` as JSON."""
    return _encoder.encode(message)


def decode(value: bytes) -> Message:
    """The message, with an interaction's unknown fields in its `extra`. Raises `InvalidInput` naming the field."""
    return exact(value) or message_of(fields_of(value))


def exact(value: bytes) -> Message | None:
    """The message, if it is just what the schema says: the one call that nearly every message takes.

    Raises `InvalidInput` where `fields_of` would, and for a message that is too large.
    """
    if len(value) > MAX_MESSAGE_BYTES:
        check_size(value)
    try:
        message: Message = _decoder.decode(value)
    except msgspec.ValidationError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid_input(error, "message") from error
    if isinstance(message, Interaction) and message.extra is not None:
        _check_depth(message.extra)
    return message


def check_size(value: bytes) -> None:
    """Raise `InvalidInput` for a message of more than `MAX_MESSAGE_BYTES`."""
    if len(value) > MAX_MESSAGE_BYTES:
        raise InvalidInput("message", f"{len(value)} bytes are more than the {MAX_MESSAGE_BYTES} allowed")


def fields_of(value: bytes) -> dict[str, Any]:
    """The fields of a JSON object, whatever they are. Raises `InvalidInput` where it is none."""
    try:
        return _fields_decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid_input(error, "message") from error


def message_of(fields: Mapping[str, Any]) -> Message:
    """The message of these fields; what is unknown of an interaction goes into its `extra`. Raises `InvalidInput`."""
    schema_fields = fields
    if fields.get("kind") == "interaction" and fields.keys() - _INTERACTION_FIELDS:
        extra = fields.get("extra")
        unknown = {name: value for name, value in fields.items() if name not in _INTERACTION_FIELDS}
        schema_fields = {name: value for name, value in fields.items() if name in _INTERACTION_FIELDS}
        if extra is None or isinstance(extra, dict):
            schema_fields["extra"] = {**(extra or {}), **unknown}
    try:
        message: Message = msgspec.convert(schema_fields, Message)
    except msgspec.ValidationError as error:
        raise invalid_input(error, "message") from error
    if isinstance(message, Interaction) and message.extra is not None:
        _check_depth(message.extra)
    return message


def _check_depth(extra: dict[str, Any]) -> None:
    """Refuse deep nesting: a later reader may have a lower limit of recursion than this one."""
    level: list[Any] = [extra]
    for _ in range(MAX_EXTRA_DEPTH):
        level = [
            inner
            for value in level
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return
    raise InvalidInput("extra", f"is nested deeper than {MAX_EXTRA_DEPTH} levels")


def invalid_input(error: Exception, whole: str) -> InvalidInput:
    """The `InvalidInput` for an error of msgspec, with the path of a field below `whole`: `events.3.user_id`."""
    if isinstance(error, RecursionError):
        return InvalidInput(whole, "is nested too deeply")
    if not isinstance(error, msgspec.ValidationError):
        return InvalidInput(whole, f"is not valid JSON: {error}")
    reason, _, location = str(error).partition(" - at `$")
    path = re.sub(r"\[(\d+)\]", r".\1", location.rstrip("`").replace("[...]", "")).strip(".")
    own = OWN_FIELD.match(reason)
    if own:
        # What a struct finds out by itself is said with the field's name in front.
        path, reason = f"{path}.{own[1]}".strip("."), own[2]
    named = re.search(r"(?:missing required|unknown) field `([^`]*)`", reason)
    parts = [whole if whole not in WHOLE_NAMES else "", path, named[1] if named else ""]
    return InvalidInput(_short(".".join(part for part in parts if part)) or whole, _short(reason), reason_code(error))


def _short(text: str) -> str:
    """Return `text` cut to the length that may be quoted to a client."""
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}..."


def key_of(message: Message) -> str:
    """The message's key on the topic, which keeps the order: the user's id, or the item's."""
    return message.item_id if isinstance(message, Item) else message.user_id
