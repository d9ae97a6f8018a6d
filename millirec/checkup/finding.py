"""Finding: one thing that a checkup saw, and what to do about it."""

from collections.abc import Awaitable, Callable
from enum import StrEnum

import msgspec

from millirec.settings import Settings


class State(StrEnum):
    """How serious a finding is."""

    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"


class Finding(msgspec.Struct, frozen=True):
    """The result of one check; `todo` and `section` (of docs/runbook.md) are empty where there is nothing to do."""

    check: str
    state: State
    found: str
    todo: str = ""
    section: str = ""


Check = Callable[[Settings], Awaitable[list[Finding]]]


def fine(check: str, text: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(check, State.OK, text)


def note(check: str, text: str, todo: str = "", section: str = "") -> Finding:
    """Return a finding that is worth knowing and not urgent."""
    return Finding(check, State.NOTE, text, todo, section)


def wrong(check: str, text: str, todo: str, section: str) -> Finding:
    """Return a finding that needs to be dealt with: what to do, and the section of the runbook about it."""
    return Finding(check, State.WRONG, text, todo, section)
