"""How messages look on the interaction topic: one JSON object each, told apart by `kind`."""

import re

import msgspec

from recsys.errors import InvalidInput
from recsys.interaction import Erasure, Interaction, Merge
from recsys.item import Item

Message = Interaction | Item | Erasure | Merge
MAX_MESSAGE_BYTES = 64 * 1024
WHOLE_NAMES = ("message", "body", "query")
"""Stand for all of it, and so are no part of a field's path."""

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Message)


def encode(message: Message) -> bytes:
    return _encoder.encode(message)


def decode(value: bytes) -> Message:
    """Raises `InvalidInput` naming the field that is wrong."""
    if len(value) > MAX_MESSAGE_BYTES:
        raise InvalidInput("message", f"{len(value)} bytes are more than the {MAX_MESSAGE_BYTES} allowed")
    try:
        message: Message = _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid_input(error, "message") from error
    return message


def invalid_input(error: Exception, whole: str) -> InvalidInput:
    """What msgspec objects to, as the path of a field below `whole`: `events.3.user_id`."""
    if not isinstance(error, msgspec.ValidationError):
        return InvalidInput(whole, f"is not valid JSON: {error}")
    reason, _, place = str(error).partition(" - at `$")
    path = re.sub(r"\[(\d+)\]", r".\1", place.rstrip("`")).strip(".")
    named = re.search(r"(?:missing required|unknown) field `([^`]*)`", reason)
    parts = [whole if whole not in WHOLE_NAMES else "", path, named[1] if named else ""]
    return InvalidInput(".".join(part for part in parts if part) or whole, reason)


def key_of(message: Message) -> str:
    """What orders the topic: a user's messages by user, an item's by item."""
    return message.item_id if isinstance(message, Item) else message.user_id
