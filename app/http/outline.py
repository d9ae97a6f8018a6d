"""Outline: checks the lengths of the lists of ids in a body before its ids are validated.

The decoder checks an entry when it meets it, and the length of a list at its end: a hundred milliseconds for a
megabyte of ids, of which a thousand would have been allowed.
"""

from functools import cache
from typing import Any

import msgspec
from msgspec import inspect

from recsys.errors import InvalidInput

LARGE = 16_384
"""Bytes; only larger bodies are checked."""


def check_lists(raw: bytes | msgspec.Raw, kind: Any) -> None:
    """Raises `InvalidInput` naming a list with more ids than `kind` allows, and `msgspec.DecodeError`."""
    decoder, limits = _outline(kind)
    if not limits:
        return
    body = decoder.decode(raw)
    for name, limit in limits.items():
        count = len(getattr(body, name))
        if count > limit:
            raise InvalidInput(name, f"holds {count} ids, at most {limit} are allowed")


@cache
def _outline(kind: Any) -> tuple[msgspec.json.Decoder[msgspec.Struct], dict[str, int]]:
    """A decoder of the lists alone that does not validate their entries, and the maximal length of each."""
    described = inspect.type_info(kind)
    fields = described.fields if isinstance(described, inspect.StructType) else ()
    limits = {
        field.name: field.type.max_length
        for field in fields
        if isinstance(field.type, inspect.ListType)
        and isinstance(field.type.item_type, inspect.StrType)
        and field.type.max_length is not None
    }
    lists = msgspec.defstruct("Outline", [(name, list[str], msgspec.field(default_factory=list)) for name in limits])
    return msgspec.json.Decoder(lists), limits
