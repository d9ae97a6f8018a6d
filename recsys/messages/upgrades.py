"""Older versions of a message, step by step up to the current one: pure functions over the fields of an object.

A step changes only what its version said in other words. What it cannot make sense of it leaves as it is, for
decoding to refuse with the field's name.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from itertools import chain
from typing import Any, get_args

import msgspec

from recsys.messages.wire import VERSION, Message

Fields = dict[str, Any]
FIRST_VERSION = 1

_SECONDS, _MILLISECONDS, _MICROSECONDS = 1e11, 1e14, 1e17
"""Below each, a time is a count of that unit: in seconds the first is the year 5138, in milliseconds 1973."""


def upgraded(fields: Fields, version: int) -> Fields:
    """`fields` of a known `version` in the current version's words."""
    for step in range(version, VERSION):
        fields = _UPGRADES[step](fields)
    return fields


def _from_1(fields: Fields) -> Fields:
    """Version 1 let producers keep the names and clocks of their own trackers.

    `kind` may be missing (an interaction), names may be in camelCase, the time may be called `timestamp` or
    `sent_at` and be a number, the type may be called `event_type`. A field under its own name takes precedence.
    """
    named = {"kind": "interaction", **fields}
    time = "updated_at" if named["kind"] == "item" else "occurred_at"
    meanings = {**_CAMEL_CASE, "eventType": "type", "event_type": "type"}
    meanings |= dict.fromkeys(("timestamp", "sentAt", "sent_at"), time)
    read: Fields = {name: value for name, value in named.items() if name not in meanings}
    for name, value in named.items():
        if name in meanings:
            read.setdefault(name if meanings[name] in read else meanings[name], value)
    if time in read:
        read[time] = _moment(read[time])
    if not isinstance(read.get("extra", {}), dict):
        read["extra"] = {"extra": read["extra"]}  # version 1 had no such field, so it may hold any value
    return read


def _moment(value: Any) -> Any:
    """A number of seconds, milliseconds or microseconds since 1970 as a time."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MICROSECONDS:
        return value
    unit = 1 if value < _SECONDS else 1e3 if value < _MILLISECONDS else 1e6
    return datetime.fromtimestamp(value / unit, UTC)


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


_NAMES = {field.name for field in chain.from_iterable(map(msgspec.structs.fields, get_args(Message)))}
_CAMEL_CASE = {_camel_case(name): name for name in _NAMES if "_" in name}
_UPGRADES: Mapping[int, Callable[[Fields], Fields]] = {1: _from_1}
