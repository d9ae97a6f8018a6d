"""Decoding: paths, query strings and bodies become text and Structs, or an error that names the field.

Percent-encoded bytes that are no UTF-8 are refused: servers put U+FFFD in place of such bytes, and many different ids
would become one.
"""

from collections.abc import Mapping
from functools import cache
from typing import TypeVar
from urllib.parse import unquote_plus, unquote_to_bytes

import msgspec
from starlette.types import Scope as Connection

from app.http.outline import LARGE, check_lists
from app.http.problems import NotUtf8
from recsys.errors import InvalidInput
from recsys.messages.wire import invalid_input

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)
MAX_PARAMETERS = 4096
REPLACED = "\ufffd"


def check_path(connection: Connection, parameters: Mapping[str, str]) -> None:
    """Raises `NotUtf8` naming the parameter of the path, or `path`."""
    # Nearly no path has it, and without it the bytes are of no interest.
    if REPLACED in connection["path"] and not _is_utf8(connection["raw_path"]):
        named = (name for name, value in parameters.items() if REPLACED in value)
        raise NotUtf8(next(named, "path"))


def check_query(raw: bytes) -> None:
    """Raises `NotUtf8` naming the parameter."""
    if b"%" not in raw and raw.isascii():
        return
    for part in raw.split(b"&"):
        if not _is_utf8(part):
            raise NotUtf8(unquote_plus(part.partition(b"=")[0].decode("utf-8", "replace"))[:64])


def _is_utf8(raw: bytes) -> bool:
    try:
        unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        return False
    return True


def decode(raw: bytes | msgspec.Raw, kind: type[T], prefix: str = "") -> T:
    """The JSON document `raw` as `kind`. Raises `InvalidInput` naming the field below `prefix`."""
    try:
        if len(raw) > LARGE:
            check_lists(raw, kind)
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid_input(error, prefix or "body") from error


def query_parameters(connection: Connection, kind: type[S], documented: type[msgspec.Struct] | None = None) -> S:
    """The query string as `kind`, of which only the fields of `documented` may be named.

    A list is given by repeating its name; `properties` may be joined by commas as well. Raises `InvalidInput`.
    """
    raw = connection["query_string"]
    if raw.count(b"&") >= MAX_PARAMETERS:
        raise InvalidInput("query", f"has more than the {MAX_PARAMETERS} parameters allowed")
    lists, field_names = _fields(documented or kind)
    values: dict[str, str | list[str]] = {}
    for name, value in _parameters(raw) if raw else ():
        if name not in field_names:
            raise InvalidInput(name[:64], "is not a parameter of this route")
        if name in lists:
            values.setdefault(name, []).extend(value.split(",") if name == "properties" else (value,))  # type: ignore[union-attr]
        elif name in values:
            raise InvalidInput(name, "is given twice")
        else:
            values[name] = value
    try:
        parameters = msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise invalid_input(error, "query") from error
    for name in values:
        # Lenient conversion takes the text "null" for nothing at all.
        if getattr(parameters, name) is None:
            raise InvalidInput(name, "needs a value")
    return parameters


def _parameters(raw: bytes) -> list[tuple[str, str]]:
    """The names and values in a query string. Raises `NotUtf8`."""
    try:
        return [_parameter(part) for part in raw.decode().split("&")]
    except UnicodeDecodeError:
        check_query(raw)
        raise


def _parameter(part: str) -> tuple[str, str]:
    """The name and the value of one parameter. Plain values skip `urllib.parse`, which is slow."""
    name, _, value = part.partition("=")
    return unquote_plus(name, errors="strict"), (
        unquote_plus(value, errors="strict") if "%" in value or "+" in value else value
    )


@cache
def _fields(kind: type[msgspec.Struct]) -> tuple[frozenset[str], frozenset[str]]:
    """The names of the fields that are lists, and of all fields."""
    fields = msgspec.structs.fields(kind)
    lists = {field.name for field in fields if "list[" in str(field.type)}
    return frozenset(lists), frozenset(field.name for field in fields)
