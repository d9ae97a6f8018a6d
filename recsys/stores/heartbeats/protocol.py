"""The store of heartbeats: what running processes say of themselves, so that one sees which are out of step.

Every process of the service and of ingest writes its own heartbeat and no other. The doctor and the console read all.
"""

from typing import Protocol

import msgspec

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
    """A heartbeat and the seconds since it was reported, by the clock of the store."""

    heartbeat: Heartbeat
    age: float

    @property
    def silent(self) -> bool:
        """Whether the process has not reported for more than `SILENT_SECONDS`."""
        return self.age > SILENT_SECONDS


class HeartbeatStore(Protocol):
    """Newest heartbeats. Methods raise `StoreUnavailable` when the server does not answer in time."""

    async def report(self, heartbeat: Heartbeat) -> None:
        """Store what a process reports of itself; forgotten after `FORGOTTEN_SECONDS` without a report."""
        ...

    async def leave(self, process: str) -> None:
        """Remove the report of a process that ends."""
        ...

    async def instances(self) -> list[Instance]:
        """The last report of every process, sorted by program and name."""
        ...
