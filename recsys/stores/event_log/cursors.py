"""Cursors of sources: how far a source was read, kept in the very commit that appends the rows up to there.

Delta keeps one kind of value of an application's own with a commit that outlives the clean-up of old commits and
stands in no other writer's way: the number of an application transaction. So a cursor is packed into such numbers
(`docs/adr`: cursors in transactions).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from recsys.errors import Conflict, InvalidInput

Cursor = str | int | float | list[Any] | dict[str, Any]
"""A JSON value of at most `MAX_CURSOR_BYTES` whose meaning only its source knows."""
MAX_CURSOR_BYTES = 2048
CHUNK = 7
"""Bytes in one number: a transaction's is a signed 64-bit integer."""


@dataclass(frozen=True, slots=True)
class SourcePosition:
    """How far a source's partition is in the log: its last offset (-1 for none), and its cursor if it has one."""

    watermark: int
    cursor: Cursor | None


@dataclass(frozen=True, slots=True)
class CursorMove:
    """The cursor of a batch that goes on where the partition's watermark was `since`."""

    since: int
    cursor: Cursor


def encode_cursor(cursor: Cursor) -> bytes:
    """Return `cursor` as JSON. Raises `InvalidInput` where it is too long or would be read as another value."""
    try:
        content = msgspec.json.encode(cursor)
        same = msgspec.json.decode(content) == cursor
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput("cursor", f"is no JSON value: {error}") from error
    if cursor is None or not same:
        raise InvalidInput("cursor", "is no JSON value that is read as it was written")
    if len(content) > MAX_CURSOR_BYTES:
        raise InvalidInput("cursor", f"takes {len(content):,} bytes as JSON, {MAX_CURSOR_BYTES:,} are allowed")
    return content


def decode_cursor(content: bytes) -> Cursor:
    """Return the cursor that `encode_cursor` made `content` of."""
    cursor: Cursor = msgspec.json.decode(content)
    return cursor


def pack_cursor(cursor: Cursor) -> list[int]:
    """Return `cursor` as numbers below 2**56, the first of them its length in bytes."""
    content = encode_cursor(cursor)
    chunks = (content[start : start + CHUNK] for start in range(0, len(content), CHUNK))
    return [len(content), *(int.from_bytes(chunk.ljust(CHUNK, b"\0"), "big") for chunk in chunks)]


def count_chunks(length: int) -> int:
    """Return how many numbers follow the length of a cursor of `length` bytes."""
    return -(-length // CHUNK)


def unpack_cursor(length: int, numbers: Iterable[int]) -> Cursor:
    """Return the cursor of `length` bytes that `pack_cursor` made `numbers` of."""
    return decode_cursor(b"".join(number.to_bytes(CHUNK, "big") for number in numbers)[:length])


def check_moves(moves: Mapping[str, CursorMove], stored: Mapping[str, int]) -> None:
    """Check that every batch goes on where its partition's `stored` watermark is.

    Raises `Conflict` where another process moved it, `InvalidInput` for a cursor without a watermark.
    """
    for partition, move in moves.items():
        if partition not in stored:
            raise InvalidInput("cursors", f"{partition} has a cursor and no watermark")
        if stored[partition] != move.since:
            raise Conflict(f"another process has moved {partition} on, from {move.since} to {stored[partition]}")
