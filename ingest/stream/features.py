"""The features group: every event into its user's record, with an embedding per version in service, and the trends."""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from time import time

from ingest.metrics import FOLD_IN_SECONDS
from ingest.stream.flow import Batch, Round
from ingest.stream.trend_counts import TrendCounter
from ingest.stream.user_merge import halves
from ingest.stream.versions_in_service import VersionsInService
from recsys.errors import StoreUnavailable
from recsys.experiments.rollout import Outcome
from recsys.index.index import Index
from recsys.messages.interaction import Interaction
from recsys.models.alias_move import AliasMove
from recsys.retries import compare_and_set
from recsys.stores.online import Stores
from recsys.stores.outcomes import OutcomeStore
from recsys.users import PositionedMessage, UserFeatures, Vector, apply, new_events

ATTEMPTS = 10
"""Other writers (a seeding run, a member whose lease just passed on) may get in between a few times."""

FOLDED_AT_ONCE = 250
"""Users whose embeddings are solved in one go."""

Records = Mapping[str, Sequence[PositionedMessage]]
"""Of each user, in topic order."""


class FeaturesGroup:
    """Folds events into the users' records, with embeddings; counts trends, notes conversions, merges items."""

    name = "features"

    def __init__(self, stores: Stores, versions: VersionsInService, history_length: int) -> None:
        self._users = stores.users
        self._items = stores.items
        self._outcomes = stores.outcomes
        self._versions = versions
        self._length = history_length
        self._trends = TrendCounter(stores.trends)

    @property
    def versions(self) -> list[str]:
        """Return the index versions that events are folded into."""
        return [index.version for index in self._versions.indexes]

    async def watermarks(self, partitions: Collection[str]) -> Mapping[str, int]:
        """Return how far the trends of each partition were counted; users' records have offsets of their own."""
        return await self._trends.look_up(partitions)

    async def apply(self, batch: Batch) -> int:
        """Apply the batch and return the number of repeats; idempotent. Raises `StoreUnavailable`, maybe half-way."""
        rounds = batch.rounds()
        records = _by_user(rounds)
        loaded = {features.user_id: features for features in await self._users.load(list(records))}
        repeated = sum(
            record.offset <= loaded[user_id].offsets.get(record.partition, -1)
            for user_id, mine in records.items()
            for record in mine
        )
        # Before anything is saved: records identify repeats only while they do not contain the batch.
        counted = [record for user_id, mine in records.items() for record in new_events(loaded[user_id], mine)]
        await self._trends.count(counted, batch.offsets, 1000 * time())
        await note_conversions(self._outcomes, self._versions.canary, counted)
        for part in rounds:
            await self._apply(part.users, loaded)
            await self._merge(part.merges)
            loaded = {}  # a merge may have changed them
        if batch.items:
            # The log group refuses the same items and writes the dead letters.
            batch.refuse_items(await self._items.put(batch.items), datetime.now(UTC))
        return repeated

    async def _apply(self, users: Records, loaded: Mapping[str, UserFeatures]) -> None:
        """Apply each user's records; `loaded` are all their stored records, or empty to load them."""

        async def write(pending: Records) -> Records:
            """Apply the records of these users once; returns those of users whose records changed in between."""
            nonlocal loaded
            stored = [loaded[user_id] for user_id in pending] if loaded else await self._users.load(list(pending))
            reduced = [apply(features, pending[features.user_id], self._length) for features in stored]
            changed = [new for new, old in zip(reduced, stored, strict=True) if new is not old]
            lost, loaded = await self._save(changed), {}
            return {user_id: pending[user_id] for user_id in lost}

        if pending := await compare_and_set(users, write, ATTEMPTS):
            raise StoreUnavailable(f"{len(pending)} users' records keep changing under this writer")

    async def _merge(self, merges: Sequence[PositionedMessage]) -> None:
        if pending := await compare_and_set(merges, self._merge_once, ATTEMPTS):
            raise StoreUnavailable(f"{len(pending)} users' records keep changing under this merge")

    async def _merge_once(self, merges: Sequence[PositionedMessage]) -> Sequence[PositionedMessage]:
        """Write both halves of each merge; returns the merges of which a record changed in between."""
        pairs = await halves(merges, self._users, self._length)
        # The receiver is saved first: a half in two records can be merged again, in none it is lost.
        lost = await self._save([pair.into for pair in pairs if pair.into])
        received = [pair.source for pair in pairs if not pair.into or pair.into.user_id not in lost]
        retry_ids = {pair.source.user_id for pair in pairs} - {record.user_id for record in received}
        retry_ids |= await self._save(received)
        return [merge for merge in merges if merge.message.user_id in retry_ids]

    async def _save(self, changed: Sequence[UserFeatures]) -> set[str]:
        """Save records with fresh embeddings, chunk by chunk; return the users whose records changed in between."""
        lost: set[str] = set()
        saving: asyncio.Task[set[str]] | None = None
        for start in range(0, len(changed), FOLDED_AT_ONCE):
            chunk = changed[start : start + FOLDED_AT_ONCE]
            # In a thread: solving takes a while, and leases must be renewed during it.
            folded = await asyncio.to_thread(with_embeddings, chunk, self._versions.indexes)
            lost |= await saving if saving else set()
            saving = asyncio.create_task(self._write(folded))
        return lost | (await saving if saving else set())

    async def _write(self, features: Sequence[UserFeatures]) -> set[str]:
        written = await self._users.save(features)
        return {record.user_id for record, done in zip(features, written, strict=True) if not done}


def _by_user(rounds: Sequence[Round]) -> dict[str, list[PositionedMessage]]:
    """Return each user's records in topic order; a merge belongs to the user that ends."""
    records: defaultdict[str, list[PositionedMessage]] = defaultdict(list)
    for part in rounds:
        for user_id, mine in part.users.items():
            records[user_id] += mine
        for merge in part.merges:
            records[merge.message.user_id].append(merge)
    return records


def with_embeddings(features: Sequence[UserFeatures], indexes: Sequence[Index]) -> list[UserFeatures]:
    """Return the records with one embedding per version in `indexes` that knows an item of theirs, and no other.

    One batched solve per version. Without `indexes`, embeddings stay unchanged.
    """
    if not indexes:
        return list(features)
    embeddings: list[dict[str, Vector]] = [{} for _ in features]
    for index in indexes:
        missing = []
        for position, record in enumerate(features):
            embedding = record.embeddings.get(index.version)
            if embedding is not None:
                embeddings[position][index.version] = embedding
            elif record.history:
                missing.append(position)
        if not missing:
            continue
        with FOLD_IN_SECONDS.time():
            vectors = index.fold_in_many([features[position].history for position in missing])
        for position, vector in zip(missing, vectors, strict=True):
            if vector is not None:
                embeddings[position][index.version] = vector
    return [replace(record, embeddings=own) for record, own in zip(features, embeddings, strict=True)]


async def note_conversions(
    store: OutcomeStore, canary: AliasMove | None, new_events: Sequence[PositionedMessage]
) -> None:
    """Mark the users of `new_events` that count as a success within the canary's current step.

    Repeated marks change nothing, so redelivery is harmless. Raises `StoreUnavailable`.
    """
    rollout = canary.rollout if canary else None
    if canary is None or rollout is None:
        return
    units = {
        rollout.unit(message.user_id)
        for message in (record.message for record in new_events)
        if isinstance(message, Interaction) and message.occurred_at >= canary.moved_at and rollout.counts(message)
    }
    if units:
        await store.record(rollout.experiment, {Outcome.CONVERTED: units})
