"""Heartbeat: what a running process says of itself, so that one can see from outside which of them are out of step."""

import os
import platform

import msgspec

REPORT_SECONDS = 2.0
FORGOTTEN_SECONDS = 60.0
"""Without a report for so long, a process counts as gone."""
SILENT_SECONDS = 10.0
"""One that has not reported for so long hangs, or was killed."""


class Heartbeat(msgspec.Struct, frozen=True, omit_defaults=True):
    """`program` is `serve` or `consume GROUP`. A service says which `version` it answers from, by the `alias` it
    follows; `versions` are all it holds, those of a consumer that it folds events into. `lag`: messages not committed
    yet, of the partitions it owns. `fallback`: why it answers from another version than the alias names. `unreadable`:
    how often it met a stored record that it could not read."""

    process: str
    program: str
    alias: str = ""
    version: str | None = None
    versions: tuple[str, ...] = ()
    lag: int = 0
    fallback: str = ""
    unreadable: int = 0


class Instance(msgspec.Struct, frozen=True):
    """A heartbeat and the seconds since it was reported, by the clock of the feature store."""

    heartbeat: Heartbeat
    age: float

    @property
    def silent(self) -> bool:
        """Whether the process has not reported for more than `SILENT_SECONDS`."""
        return self.age > SILENT_SECONDS


def process_name(part: str = "") -> str:
    """This process, among those of all machines; `part` of it, where several report."""
    return ":".join(filter(None, (platform.node(), str(os.getpid()), part)))
