"""The feature store inside one process, for tests and experiments; nothing outlives it."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import monotonic

from recsys.errors import InvalidInput
from recsys.experiments.rollout import UNITS, Outcome
from recsys.messages.item import Item
from recsys.recommender.trend import TREND_HOURS, TrendCounts
from recsys.settings import StoreSettings
from recsys.stores.feature_store.items import applied, by_item
from recsys.stores.feature_store.protocol import ITEMS_CHANNEL, KEPT_ITEMS, ItemChanges
from recsys.stores.heartbeat import FORGOTTEN_SECONDS, Heartbeat, Instance
from recsys.users import UserFeatures


@dataclass(slots=True)
class _Channel:
    news: asyncio.Event = field(default_factory=asyncio.Event)
    payload: str = ""


class MemoryFeatureStore:
    """A `FeatureStore` in dictionaries."""

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        self._users: dict[str, UserFeatures] = {}
        self._items: dict[str, Item] = {}
        self._changed: dict[str, int] = {}
        self._revision = 0
        self._counted: dict[str, int] = {}
        self._trends: dict[int, Counter[str]] = {}
        self._marks: dict[str, dict[Outcome, bytearray]] = {}
        self._tallies: dict[str, Counter[str]] = {}
        self._heartbeats: dict[str, tuple[float, Heartbeat]] = {}
        self._channels: dict[str, _Channel] = {}

    async def read(
        self,
        user_ids: Sequence[str],
        version: str | None = None,
        *,
        shown: bool = False,
        batch: bool = False,  # noqa: ARG002  # a read of memory does not wait
    ) -> list[UserFeatures]:
        """See `FeatureStore.read`; never raises, and `batch` changes nothing."""
        users = []
        for features in await self.load(user_ids):
            embeddings = {name: vector for name, vector in features.embeddings.items() if name == version}
            shown_history = features.shown if shown else ()
            users.append(
                replace(
                    features,
                    offsets={},
                    embeddings=embeddings,
                    identity_changes=(),
                    shown=shown_history,
                    dedup_window=b"",
                )
            )
        return users

    async def load(self, user_ids: Sequence[str]) -> list[UserFeatures]:
        """See `FeatureStore.load`; every record is readable."""
        return [self._users.get(user_id) or UserFeatures(user_id) for user_id in user_ids]

    async def save(self, features: Sequence[UserFeatures]) -> list[bool]:
        """See `FeatureStore.save`; records have no TTL."""
        return [self._save(record) for record in features]

    def _save(self, features: UserFeatures) -> bool:
        record = self._users.get(features.user_id)
        if features.revision != (record.revision if record else 0):
            return False
        self._users[features.user_id] = replace(features, revision=features.revision + 1)
        return True

    async def put_items(
        self,
        items: Sequence[Item],
        *,
        whole: bool = False,  # noqa: ARG002  # nothing in memory is unreadable
    ) -> dict[int, InvalidInput]:
        """See `FeatureStore.put_items`; `whole` changes nothing, because every item is readable."""
        changed, refused = False, dict[int, InvalidInput]()
        for item_id, updates in by_item(items).items():
            current = self._items.get(item_id)
            new, without = applied(current, updates)
            refused |= without
            if new is None or new == current:
                continue
            changed = True
            self._revision += 1
            self._items[item_id] = new
            self._changed.pop(item_id, None)
            self._changed[item_id] = self._revision
        if changed:
            await self.notify(ITEMS_CHANNEL)
        return refused

    async def get_items(self, item_ids: Sequence[str]) -> list[Item | None]:
        """See `FeatureStore.get_items`."""
        return [self._items.get(item_id) for item_id in item_ids]

    async def items_changed(self, since: int, limit: int = 10_000) -> ItemChanges:
        """See `FeatureStore.items_changed`."""
        start = since if since <= self._revision else 0
        news = [(revision, item_id) for item_id, revision in self._changed.items() if revision > start]
        page = news[:limit]
        return ItemChanges(
            revision=page[-1][0] if page else self._revision,
            items=[self._items[item_id] for _, item_id in page],
            complete=len(news) <= limit,
        )

    async def count_trends(self, counts: Sequence[TrendCounts]) -> list[int]:
        """See `FeatureStore.count_trends`."""
        return [self._count(entry) for entry in counts]

    def _count(self, counts: TrendCounts) -> int:
        offset = self._counted.get(counts.partition, -1)
        if offset == counts.base_offset:
            self._counted[counts.partition] = counts.reached
            for hour, weights in counts.hours.items():
                counted = self._trends.setdefault(hour, Counter())
                counted.update(weights)
                if len(counted) > KEPT_ITEMS:
                    self._trends[hour] = Counter(dict(counted.most_common(KEPT_ITEMS // 2)))
            for hour in sorted(self._trends)[:-TREND_HOURS]:
                del self._trends[hour]
        return offset

    async def trends(self, hours: Sequence[int]) -> dict[int, dict[str, int]]:
        """See `FeatureStore.trends`."""
        return {hour: dict(self._trends.get(hour, ())) for hour in hours}

    async def record_outcomes(self, experiment: str, outcomes: Mapping[Outcome, Iterable[int]]) -> None:
        """See `FeatureStore.record_outcomes`."""
        for outcome, units in outcomes.items():
            bitmap = self._marks.setdefault(experiment, {}).setdefault(outcome, bytearray(UNITS // 8))
            for unit in units:
                bitmap[unit >> 3] |= 0x80 >> (unit & 7)

    async def outcomes(self, experiment: str) -> dict[Outcome, bytes]:
        """See `FeatureStore.outcomes`; every bitmap has `UNITS` / 8 bytes."""
        return {outcome: bytes(bitmap) for outcome, bitmap in self._marks.get(experiment, {}).items()}

    async def increment(self, name: str, counts: Mapping[str, int]) -> None:
        """See `FeatureStore.increment`."""
        self._tallies.setdefault(name, Counter()).update(counts)

    async def counters(self, name: str) -> dict[str, int]:
        """See `FeatureStore.counters`."""
        return dict(self._tallies.get(name, ()))

    async def report(self, heartbeat: Heartbeat) -> None:
        """See `FeatureStore.report`."""
        self._heartbeats[heartbeat.process] = (monotonic(), heartbeat)

    async def leave(self, process: str) -> None:
        """See `FeatureStore.leave`."""
        self._heartbeats.pop(process, None)

    async def instances(self) -> list[Instance]:
        """See `FeatureStore.instances`; ages are by the monotonic clock of this process."""
        now_seconds = monotonic()
        instances = [Instance(heartbeat, now_seconds - at) for at, heartbeat in self._heartbeats.values()]
        fresh = [instance for instance in instances if instance.age <= FORGOTTEN_SECONDS]
        return sorted(fresh, key=lambda instance: (instance.heartbeat.program, instance.heartbeat.process))

    async def notify(self, channel: str, payload: str = "") -> None:
        """See `FeatureStore.notify`; a channel that was never waited on drops the payload."""
        if channel in self._channels:
            self._channels[channel].payload = payload
            self._channels[channel].news.set()

    async def wait_for_notification(self, channel: str, timeout: float) -> str | None:
        """See `FeatureStore.wait_for_notification`; only the newest payload is kept."""
        listened = self._channels.setdefault(channel, _Channel())
        try:
            async with asyncio.timeout(timeout):
                await listened.news.wait()
        except TimeoutError:
            return None
        listened.news.clear()
        return listened.payload

    async def ping(self) -> None:
        """Does nothing: memory is always available."""

    async def aclose(self) -> None:
        """Does nothing: there is nothing to close."""
