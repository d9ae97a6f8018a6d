"""The store of users inside one process, for tests and experiments; nothing outlives it."""

from collections.abc import Sequence
from dataclasses import replace

from recsys.users import UserFeatures


class MemoryUserStore:
    """A `UserStore` in a dictionary."""

    def __init__(self) -> None:
        self._users: dict[str, UserFeatures] = {}

    async def read(
        self,
        user_ids: Sequence[str],
        version: str | None = None,
        *,
        shown: bool = False,
        batch: bool = False,  # noqa: ARG002  # a read of memory does not wait
    ) -> list[UserFeatures]:
        """See `UserStore.read`; never raises, and `batch` changes nothing."""
        users = []
        for features in await self.load(user_ids):
            embeddings = {name: vector for name, vector in features.embeddings.items() if name == version}
            shown_history = features.impressions if shown else ()
            users.append(
                replace(
                    features,
                    offsets={},
                    embeddings=embeddings,
                    identity_changes=(),
                    impressions=shown_history,
                    dedup_window=b"",
                )
            )
        return users

    async def load(self, user_ids: Sequence[str]) -> list[UserFeatures]:
        """See `UserStore.load`; every record is readable."""
        return [self._users.get(user_id) or UserFeatures(user_id) for user_id in user_ids]

    async def save(self, features: Sequence[UserFeatures]) -> list[bool]:
        """See `UserStore.save`; records have no TTL."""
        return [self._save(record) for record in features]

    def _save(self, features: UserFeatures) -> bool:
        record = self._users.get(features.user_id)
        if features.revision != (record.revision if record else 0):
            return False
        self._users[features.user_id] = replace(features, revision=features.revision + 1)
        return True
