"""The features group: every event into its user's record, with an embedding per version in service, and the trends."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import uniform
from time import time

from ingest.flow import Batch
from ingest.metrics import FOLD_IN_SECONDS
from ingest.trend_counts import TrendCounter
from ingest.user_merge import halves
from ingest.versions_in_service import VersionsInService
from recsys.errors import StoreUnavailable
from recsys.feature_store import FeatureStore
from recsys.recommender import Index
from recsys.user_features import Positioned, UserFeatures, Vector, apply

ATTEMPTS = 10
"""Other writers (a seeding run, a member whose lease just passed on) may get in between a few times."""

RIVAL_PAUSE = 0.01


class FeaturesGroup:
    name = "features"

    def __init__(self, store: FeatureStore, versions: VersionsInService, history_length: int) -> None:
        self._store = store
        self._versions = versions
        self._length = history_length
        self._trends = TrendCounter(store)

    async def apply(self, batch: Batch) -> None:
        """Idempotent. Raises `StoreUnavailable`, with any part of the batch applied."""
        # Beside the rest: the event loop has little to do while a thread solves.
        counting = asyncio.create_task(self._trends.count(batch.interactions, 1000 * time()))
        try:
            for part in batch.rounds():
                await self._apply(part.users)
                await self._merge(part.merges)
        finally:
            await counting
        if batch.items:
            await self._store.put_items(batch.items)

    async def _apply(self, users: Mapping[str, Sequence[Positioned]]) -> None:
        pending = dict(users)
        for attempt in range(ATTEMPTS):
            if not pending:
                break
            # Out of step with whoever else writes, so that nobody always comes second.
            await asyncio.sleep(uniform(0, attempt * RIVAL_PAUSE))  # noqa: S311
            loaded = await self._store.load(list(pending))
            reduced = [apply(features, pending[features.user_id], self._length) for features in loaded]
            changed = [new for new, old in zip(reduced, loaded, strict=True) if new is not old]
            lost = await self._save(changed)
            pending = {user_id: records for user_id, records in pending.items() if user_id in lost}
        if pending:
            raise StoreUnavailable(f"{len(pending)} users' records keep changing under this writer")

    async def _merge(self, merges: Sequence[Positioned]) -> None:
        pending = list(merges)
        for attempt in range(ATTEMPTS):
            if not pending:
                return
            await asyncio.sleep(uniform(0, attempt * RIVAL_PAUSE))  # noqa: S311
            both = await halves(pending, self._store, self._length)
            # Whoever receives comes first: what stands in two places can be merged again, in none it is lost.
            lost = await self._save([one.into for one in both if one.into])
            received = [one.source for one in both if not one.into or one.into.user_id not in lost]
            left = {one.source.user_id for one in both} - {one.user_id for one in received}
            left |= await self._save(received)
            pending = [merge for merge in pending if merge.message.user_id in left]
        if pending:
            raise StoreUnavailable(f"{len(pending)} users' records keep changing under this merge")

    async def _save(self, changed: Sequence[UserFeatures]) -> set[str]:
        """With fresh embeddings; whose record somebody else has changed meanwhile."""
        # In a thread: solving takes a while, and leases must be renewed meanwhile.
        folded = await asyncio.to_thread(with_embeddings, changed, self._versions.indexes)
        written = await self._store.save(folded)
        return {features.user_id for features, done in zip(folded, written, strict=True) if not done}


def with_embeddings(features: Sequence[UserFeatures], indexes: Sequence[Index]) -> list[UserFeatures]:
    """The same records with an embedding per version in `indexes` (where it knows an item of theirs), and no other.

    One batched solve per version. While no version is known, embeddings stay as they are.
    """
    if not indexes:
        return list(features)
    embeddings: list[dict[str, Vector]] = [{} for _ in features]
    for index in indexes:
        missing = []
        for place, one in enumerate(features):
            known = one.embeddings.get(index.version)
            if known is not None:
                embeddings[place][index.version] = known
            elif one.history:
                missing.append(place)
        if not missing:
            continue
        with FOLD_IN_SECONDS.time():
            vectors = index.fold_in_many([features[place].history for place in missing])
        for place, vector in zip(missing, vectors, strict=True):
            if vector is not None:
                embeddings[place][index.version] = vector
    return [replace(one, embeddings=own) for one, own in zip(features, embeddings, strict=True)]
