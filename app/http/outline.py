"""Outline: checks how many entries the lists and objects of a body have before they are decoded.

The decoder checks an entry when it meets it, and their number at the end: thirty milliseconds for a megabyte of
entries, of which a thousand would have been allowed. Passing over a list without decoding it takes three.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec
from msgspec import inspect

from recsys.errors import InvalidInput

LARGE = 16_384
"""Bytes; only larger bodies are checked."""
MAX_ENTRY = 131_072
"""Bytes of an entry: twice those of a message."""
_CONTAINERS = (inspect.ListType, inspect.VarTupleType, inspect.DictType)
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_FLAT = rb'[\[{](?:[^"\[\]{}]++|' + _STRING + rb")*+[\]}]"
_NESTED = rb'[\[{](?:[^"\[\]{}]++|' + _STRING + rb"|" + _FLAT + rb")*+[\]}]"
_ENTRY = re.compile(
    rb"\s*+(?:" + _STRING + rb'\s*+:\s*+)?(?:[^"\[\]{},\s]++|' + _STRING + rb"|" + _NESTED + rb")\s*+[,\]}]", re.DOTALL
)
"""An entry of a list or an object up to the comma or the end behind it; no entry of the schemas is nested deeper."""


def check_lists(raw: bytes | msgspec.Raw, kind: Any) -> None:
    """Raises `InvalidInput` naming a list or object with more entries than `kind` allows, and `msgspec.DecodeError`."""
    decoder, limits = _outline(kind)
    if limits:
        body = decoder.decode(raw)
        for name, limit in limits.items():
            check_count(name, getattr(body, name), limit)


def check_count(name: str, raw: bytes | msgspec.Raw, limit: int) -> None:
    """Raises `InvalidInput` if the JSON list or object has more entries than `limit`; looks at so many at most."""
    for _ in count_entries(name, raw, limit):
        pass


def count_entries(name: str, raw: bytes | msgspec.Raw, limit: int) -> Iterator[int]:
    """Count like `check_count`, an entry at a time: yields its bytes, for those who work in pieces."""
    encoded = bytes(raw)
    if encoded.count(b",") < limit:
        return
    end = 1
    for _ in range(limit):
        entry = _ENTRY.match(encoded, end, end + MAX_ENTRY)
        if entry is None:
            raise InvalidInput(name, f"has an entry that is nested too deep or has more than {MAX_ENTRY} bytes")
        yield entry.end() - end
        end = entry.end()
        if encoded[end - 1 : end] != b",":
            return
    raise InvalidInput(name, f"holds more than the {limit} entries allowed")


@cache
def _outline(kind: Any) -> tuple[msgspec.json.Decoder[msgspec.Struct], dict[str, int]]:
    """A decoder that passes over the lists and objects whose length is bounded, and the bound of each."""
    described = inspect.type_info(kind)
    fields = described.fields if isinstance(described, inspect.StructType) else ()
    limits = {
        field.encode_name: part.max_length
        for field in fields
        for part in _parts(field.type)
        if isinstance(part, _CONTAINERS) and part.max_length is not None
    }
    raws = [(name, msgspec.Raw, msgspec.field(default=msgspec.Raw(b""))) for name in limits]
    return msgspec.json.Decoder(msgspec.defstruct("Outline", raws)), limits


def _parts(described: inspect.Type) -> tuple[inspect.Type, ...]:
    """The types of which a value may be any."""
    if isinstance(described, inspect.Metadata):
        return _parts(described.type)
    if isinstance(described, inspect.UnionType):
        return tuple(part for alternative in described.types for part in _parts(alternative))
    return (described,)
