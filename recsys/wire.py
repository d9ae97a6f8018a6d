"""How messages look on the interaction topic: one JSON object each, told apart by `kind`."""

import msgspec

from recsys.errors import InvalidInput
from recsys.interaction import Erasure, Interaction
from recsys.item import Item

Message = Interaction | Item | Erasure
MAX_MESSAGE_BYTES = 64 * 1024

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Message)


def encode(message: Message) -> bytes:
    return _encoder.encode(message)


def decode(value: bytes) -> Message:
    """Raises `InvalidInput` naming the field that is wrong."""
    if len(value) > MAX_MESSAGE_BYTES:
        raise InvalidInput("message", f"{len(value)} bytes are more than the {MAX_MESSAGE_BYTES} allowed")
    try:
        return _decoder.decode(value)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$.")
        raise InvalidInput(path.rstrip("`") or "message", reason) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput("message", f"is not JSON: {error}") from error


def key_of(message: Message) -> str:
    """What orders the topic: a user's messages by user, an item's by item."""
    return message.item_id if isinstance(message, Item) else message.user_id
