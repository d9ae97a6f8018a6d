"""The store of users: one record each, changed by compare-and-set.

Ingest alone writes it: the consumer group `features`, and a rebuild from the log. The service reads it, once per turn
of its event loop.
"""

from collections.abc import Sequence
from typing import Protocol

from recsys.users import UserFeatures

UNREADABLE = -1
"""The revision of a record that is stored but cannot be read. A save of it replaces whatever is there."""


class UserStore(Protocol):
    """Records of users. Methods raise `StoreUnavailable` when the server does not answer in time."""

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
