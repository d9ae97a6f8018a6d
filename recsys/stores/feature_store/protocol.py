"""The feature store: per-user features, the item catalogue and trend counts; written by ingest, read by app.

Outcomes of rollouts are noted by both: the app knows which user got which answer, ingest what the user did then.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from recsys.errors import InvalidInput
from recsys.experiments.rollout import Outcome
from recsys.messages.item import Item
from recsys.recommender.trend import TrendCounts
from recsys.stores.heartbeat import Heartbeat, Instance
from recsys.users import UserFeatures

ITEMS_CHANNEL = "items"
"""Notified by `put_items`."""
VERSIONS_CHANNEL = "versions"
PLACEMENTS_CHANNEL = "placements"

KEPT_ITEMS = 10_000
"""Items of one partition and hour in the trend counts. Above it only the heavier half stays: newcomers get room."""

UNREADABLE = -1
"""The revision of a record that is stored but cannot be read. A save of it replaces whatever is there."""


OUTCOME_TTL = 60 * 86_400
"""Seconds that outcomes and counters stay after the last one."""


@dataclass(frozen=True, slots=True)
class ItemChanges:
    """Items changed after some revision, each once in its newest state, and the revision reached."""

    revision: int
    items: list[Item]
    complete: bool
    """False when more changes wait (call again with `revision`)."""


class FeatureStore(Protocol):
    """What every feature store offers. Methods raise `StoreUnavailable` when the server does not answer in time."""

    async def read(
        self, user_ids: Sequence[str], version: str | None = None, *, shown: bool = False, batch: bool = False
    ) -> list[UserFeatures]:
        """History, revision, the one embedding of `version` and, if asked, what was `shown`, in one round trip.

        All else stays empty: this is the serving read. Unknown users come back empty with revision 0.
        An unreadable record is logged and comes back empty with revision `UNREADABLE`, so that
        the other answers are unaffected. Raises `StoreUnavailable` on any other failure, within `read_timeout`, or
        `timeout` for a `batch`, which takes longer than one user.
        """
        ...

    async def load(self, user_ids: Sequence[str]) -> list[UserFeatures]:
        """The whole record (offsets and every embedding) per user, for a writer; `UNREADABLE` as in `read`.

        Of a record with fields that cannot be read the others stay, of those above all the identity changes.
        """
        ...

    async def save(self, features: Sequence[UserFeatures]) -> list[bool]:
        """Write each record atomically where its stored revision still is `features.revision`.

        True where written (the stored revision is then one higher), False where another writer was
        first: load and reduce again. Replaces the record whole and renews its TTL.
        """
        ...

    async def put_items(self, items: Sequence[Item], *, whole: bool = False) -> dict[int, InvalidInput]:
        """Merge each update into the catalogue (the newer `updated_at` wins) and notify readers.

        Returns what is refused and why, by position in `items`: an update whose properties have no room beside those
        that the item has. Nothing of it is applied, and all else is. An entry that cannot be read is replaced only by
        an update that says `available`, or by a `whole` item.
        """
        ...

    async def get_items(self, item_ids: Sequence[str]) -> list[Item | None]:
        """The item per id, `None` where there is none. An entry that cannot be read is an item that is hidden."""
        ...

    async def items_changed(self, since: int, limit: int = 10_000) -> ItemChanges:
        """Changes after revision `since` (0: the whole catalogue), oldest first.

        A `since` above all that is stored means that the store was lost: everything comes again,
        and the revision reached is lower. Callers store the revision they get in either case.
        """
        ...

    async def count_trends(self, counts: Sequence[TrendCounts]) -> list[int]:
        """Add each, atomically, where the highest offset counted of its partition still is `base_offset` (-1: none).

        Returns the offset found per entry. Where it differs from `base_offset` nothing was added: another process
        counted up to there. Of an hour with more than `KEPT_ITEMS` the heaviest stay; hours leave after `TREND_HOURS`.
        """
        ...

    async def trends(self, hours: Sequence[int]) -> dict[int, dict[str, int]]:
        """Weights by hour and item, summed over partitions."""
        ...

    async def record_outcomes(self, experiment: str, outcomes: Mapping[Outcome, Iterable[int]]) -> None:
        """Mark the units (0 to `UNITS` - 1) that had each of these outcomes; idempotent."""
        ...

    async def outcomes(self, experiment: str) -> dict[Outcome, bytes]:
        """The units per outcome: bit 7 of byte 0 is unit 0; a unit beyond the bytes has no mark."""
        ...

    async def increment(self, name: str, counts: Mapping[str, int]) -> None:
        """Add to the running counts kept under `name`. One that fails may or may not have counted."""
        ...

    async def counters(self, name: str) -> dict[str, int]:
        """The running counts under `name`; empty where there are none."""
        ...

    async def report(self, heartbeat: Heartbeat) -> None:
        """Store what a process reports of itself; forgotten after `FORGOTTEN_SECONDS` without a report."""
        ...

    async def leave(self, process: str) -> None:
        """Remove the report of a process that ends."""
        ...

    async def instances(self) -> list[Instance]:
        """The last report of every process, sorted by program and name."""
        ...

    async def notify(self, channel: str, payload: str = "") -> None:
        """Wake every listener of `channel`; best effort, readers poll as a safety net."""
        ...

    async def wait_for_notification(self, channel: str, timeout: float) -> str | None:
        """The next payload on `channel`, or `None` after `timeout` seconds.

        A first call subscribes; notifications between calls are kept (at least one of them), not lost.
        """
        ...

    async def ping(self) -> None:
        """Check that the store answers. Raises `StoreUnavailable` where it does not."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...
