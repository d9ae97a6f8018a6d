"""Finding: one thing that a checkup saw, and what to do about it."""

from collections.abc import Awaitable, Callable
from enum import StrEnum

import msgspec

from millirec.settings import Settings


class State(StrEnum):
    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"


class Finding(msgspec.Struct, frozen=True):
    """`todo` and `section` (of docs/runbook.md) are empty where there is nothing to do."""

    check: str
    state: State
    found: str
    todo: str = ""
    section: str = ""


Check = Callable[[Settings], Awaitable[list[Finding]]]


def fine(check: str, found: str) -> Finding:
    return Finding(check, State.OK, found)


def note(check: str, found: str, todo: str = "", section: str = "") -> Finding:
    """Something to know, and no reason to wake anybody."""
    return Finding(check, State.NOTE, found, todo, section)


def wrong(check: str, found: str, todo: str, section: str) -> Finding:
    return Finding(check, State.WRONG, found, todo, section)
