"""Ids for events sent without one: the same event sent again gets the same id, if it can be recognised.

Of two requests that say the same, without ids, times or a key, nobody can tell whether the second is a retry.
"""

from collections.abc import Iterable

import xxhash

from app.http.schemas.events import EventBody
from recsys.errors import InvalidInput
from recsys.messages.interaction import content_id

HEADER = "Idempotency-Key"
MAX_KEY_LENGTH = 255
_NAME = HEADER.lower().encode()
_FIRST, _LAST = 0x20, 0x7E
"""Printable ASCII, as the draft of the header has it."""


def idempotency_key(headers: Iterable[tuple[bytes, bytes]], caller: str) -> str | None:
    """The request's key within what `caller` sends, `None` without the header. Raises `InvalidInput`."""
    values = [value.strip() for name, value in headers if name == _NAME]
    if not values:
        return None
    if len(values) > 1:
        raise InvalidInput(HEADER, "is there twice")
    if not 1 <= len(values[0]) <= MAX_KEY_LENGTH or not all(_FIRST <= byte <= _LAST for byte in values[0]):
        raise InvalidInput(HEADER, f"must have 1 to {MAX_KEY_LENGTH} characters of printable ASCII")
    return f"{caller}\x1f{values[0].decode('ascii')}"


def derived_id(body: EventBody, key: str | None, position: int) -> str | None:
    """From the request's `key` and the `position` in it, else from an event that says when it occurred; else `None`.

    The content is part of it either way: a key that comes again with other events does not hide them.
    """
    if key is None and body.occurred_at is None:
        return None
    content = content_id(
        body.user_id,
        body.item_id,
        body.type,
        body.occurred_at,
        body.quantity,
        body.price,
        body.session_id,
        body.recommendation_id,
    )
    return content if key is None else xxhash.xxh3_128_hexdigest(f"{key}\x1f{position}\x1f{content}".encode())
