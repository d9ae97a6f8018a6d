"""The limits of a message's fields, read off its type, so that a column of rows is checked by the very same ones."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from recsys.messages.interaction import Interaction, to_the_end
from recsys.messages.item import Item


class ReasonCode(StrEnum):
    """Why a message or a row is refused: the kind of reason, whatever its sentence says."""

    MISSING = "missing"
    WRONG_TYPE = "wrong_type"
    TOO_LONG = "too_long"
    TOO_MANY = "too_many"
    PATTERN = "pattern"
    TOO_SMALL = "too_small"
    TOO_LARGE = "too_large"
    IN_FUTURE = "in_future"
    TOO_OLD = "too_old"
    RULE = "rule"
    UNREADABLE = "unreadable"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class FieldLimits:
    """What a field may say; `None` where there is no such limit. `entry` limits each entry of a list."""

    required: bool = False
    max_length: int | None = None
    pattern: str | None = None
    above: float | None = None
    least: float | None = None
    most: float | None = None
    entry: "FieldLimits | None" = None


def field_limits(message_type: type[Interaction | Item]) -> Mapping[str, FieldLimits]:
    """Return the limits of each field of a message, by name, as its decoder has them.

    `max_length` counts characters of a text and entries of a list. A pattern is one to search for, and its `$` stands
    for the very end, as in RE2 and Rust.
    """
    info = msgspec.inspect.type_info(message_type)
    assert isinstance(info, msgspec.inspect.StructType)  # noqa: S101  # messages are structs
    return {field.name: _limits_of(field.type, required=field.required) for field in info.fields}


def _limits_of(kind: msgspec.inspect.Type, *, required: bool = False) -> FieldLimits:
    match kind:
        case msgspec.inspect.UnionType():
            kinds = [option for option in kind.types if not isinstance(option, msgspec.inspect.NoneType)]
            return _limits_of(kinds[0], required=required) if len(kinds) == 1 else FieldLimits(required)
        case msgspec.inspect.StrType():
            pattern = None if kind.pattern is None else kind.pattern.removesuffix(to_the_end(""))
            return FieldLimits(required, kind.max_length, pattern)
        case msgspec.inspect.FloatType():
            return FieldLimits(required, above=kind.gt, least=kind.ge, most=kind.le)
        case msgspec.inspect.ListType():
            return FieldLimits(required, kind.max_length, entry=_limits_of(kind.item_type))
    return FieldLimits(required)


_CODES: Mapping[ReasonCode, re.Pattern[str]] = {
    ReasonCode.MISSING: re.compile(r"missing required field|Expected `str` of length >= "),
    ReasonCode.TOO_LONG: re.compile(r"Expected `str` of length <= "),
    ReasonCode.TOO_MANY: re.compile(r"Expected `(array|object)` of length <= "),
    ReasonCode.PATTERN: re.compile(r"Expected `str` matching regex "),
    ReasonCode.TOO_SMALL: re.compile(r"Expected `(float|int)` >=? "),
    ReasonCode.TOO_LARGE: re.compile(r"Expected `(float|int)` <=? "),
    ReasonCode.WRONG_TYPE: re.compile(r"Expected `[^`]*`, got |Invalid RFC3339 encoded datetime"),
}


def reason_code(error: Any) -> ReasonCode:
    """Return the code of an error of msgspec's decoder. An empty id counts as missing."""
    reason = str(error)
    return next((code for code, pattern in _CODES.items() if pattern.search(reason)), ReasonCode.INVALID)
