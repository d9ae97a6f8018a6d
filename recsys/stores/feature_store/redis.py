"""The feature store on Redis or Valkey; the layout is in `keys`, what is atomic is in `scripts`.

The server needs `maxmemory-policy noeviction` or `volatile-*` with room to spare: an evicted record is a
user forgotten. Everything written carries a TTL.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import msgspec

from recsys.clients.redis import Exchange, ScriptCall, checked, is_of_another_kind, packer
from recsys.errors import InvalidInput
from recsys.experiments.rollout import Outcome
from recsys.messages.item import Item
from recsys.observability.unreadable import USER_RECORD, note_unreadable
from recsys.recommender.trend import TrendCounts
from recsys.settings import StoreSettings
from recsys.stores.feature_store import scripts
from recsys.stores.feature_store.heartbeats import Heartbeats
from recsys.stores.feature_store.items import ItemCatalogue
from recsys.stores.feature_store.keys import (
    REVISION,
    Keys,
    from_fields,
    from_reply,
    revision_of,
    salvaged,
    serving_fields,
    to_fields,
)
from recsys.stores.feature_store.notifications import Notifications
from recsys.stores.feature_store.outcomes import Outcomes
from recsys.stores.feature_store.protocol import ITEMS_CHANNEL, UNREADABLE, ItemChanges
from recsys.stores.feature_store.trends import TrendCounters
from recsys.stores.heartbeat import Heartbeat, Instance
from recsys.users import UserFeatures

S = TypeVar("S")

CHUNK = 500
"""Users per round trip."""


class RedisFeatureStore:
    """A `FeatureStore` on a Redis or Valkey server."""

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        self._keys = Keys(settings.prefix)
        self._exchange = Exchange(settings)
        self._catalogue = ItemCatalogue(self._exchange, self._keys, settings.item_ttl)
        self._trends = TrendCounters(self._exchange, self._keys)
        self._outcomes = Outcomes(self._exchange, self._keys)
        self._heartbeats = Heartbeats(self._exchange, self._keys)
        self._notifications = Notifications(settings)

    async def read(
        self, user_ids: Sequence[str], version: str | None = None, *, shown: bool = False, batch: bool = False
    ) -> list[UserFeatures]:
        """See `FeatureStore.read`; one HMGET per user, in one round trip that is not repeated."""
        command = packer(b"HMGET", serving_fields(version, shown=shown))
        commands = [command(self._keys.user(user_id)) for user_id in user_ids]
        timeout = self._settings.timeout if batch else self._settings.read_timeout
        replies = await self._exchange.once(commands, timeout)
        decode = partial(from_reply, version=version, shown=shown)
        return [
            _readable(user_id, reply, decode, _without_content)
            for user_id, reply in zip(user_ids, replies, strict=True)
        ]

    async def load(self, user_ids: Sequence[str]) -> list[UserFeatures]:
        """See `FeatureStore.load`; chunks of `CHUNK` users are read at the same time."""
        chunks = [user_ids[start : start + CHUNK] for start in range(0, len(user_ids), CHUNK)]
        return [record for chunk in await asyncio.gather(*map(self._load, chunks)) for record in chunk]

    async def _load(self, user_ids: Sequence[str]) -> list[UserFeatures]:
        command = packer(b"HGETALL", ())
        replies = await self._exchange.retrying([command(self._keys.user(user_id)) for user_id in user_ids])
        return [_record(user_id, _paired(reply)) for user_id, reply in zip(user_ids, replies, strict=True)]

    async def save(self, features: Sequence[UserFeatures]) -> list[bool]:
        """See `FeatureStore.save`; each record is written by one script."""
        chunks = [features[start : start + CHUNK] for start in range(0, len(features), CHUNK)]
        return [done for chunk in await asyncio.gather(*map(self._save, chunks)) for done in chunk]

    async def _save(self, features: Sequence[UserFeatures]) -> list[bool]:
        return [done == 1 for done in await self._exchange.scripted(scripts.SAVE, map(self._save_call, features))]

    def _save_call(self, features: UserFeatures) -> ScriptCall:
        fields = [part for field in to_fields(features).items() for part in field]
        revision, ttl = b"%d" % features.revision, b"%d" % round(self._settings.user_ttl * 1000)
        return [self._keys.user(features.user_id)], [revision, ttl, *fields]

    async def put_items(self, items: Sequence[Item], *, whole: bool = False) -> dict[int, InvalidInput]:
        """See `FeatureStore.put_items`."""
        put = await self._catalogue.put(items, whole=whole)
        if put.changed:
            await self.notify(ITEMS_CHANNEL)
        return put.refused

    async def get_items(self, item_ids: Sequence[str]) -> list[Item | None]:
        """See `FeatureStore.get_items`."""
        return await self._catalogue.get(item_ids)

    async def items_changed(self, since: int, limit: int = 10_000) -> ItemChanges:
        """See `FeatureStore.items_changed`."""
        return await self._catalogue.changed(since, limit)

    async def count_trends(self, counts: Sequence[TrendCounts]) -> list[int]:
        """See `FeatureStore.count_trends`."""
        return await self._trends.count(counts)

    async def trends(self, hours: Sequence[int]) -> dict[int, dict[str, int]]:
        """See `FeatureStore.trends`; of each partition and hour the heaviest `READ_ITEMS` items."""
        return await self._trends.read(hours)

    async def record_outcomes(self, experiment: str, outcomes: Mapping[Outcome, Iterable[int]]) -> None:
        """See `FeatureStore.record_outcomes`."""
        await self._outcomes.record_outcomes(experiment, outcomes)

    async def outcomes(self, experiment: str) -> dict[Outcome, bytes]:
        """See `FeatureStore.outcomes`."""
        return await self._outcomes.outcomes(experiment)

    async def increment(self, name: str, counts: Mapping[str, int]) -> None:
        """See `FeatureStore.increment`."""
        await self._outcomes.increment(name, counts)

    async def counters(self, name: str) -> dict[str, int]:
        """See `FeatureStore.counters`."""
        return await self._outcomes.counters(name)

    async def report(self, heartbeat: Heartbeat) -> None:
        """See `FeatureStore.report`."""
        await self._heartbeats.report(heartbeat)

    async def leave(self, process: str) -> None:
        """See `FeatureStore.leave`."""
        await self._heartbeats.leave(process)

    async def instances(self) -> list[Instance]:
        """See `FeatureStore.instances`."""
        return await self._heartbeats.instances()

    async def notify(self, channel: str, payload: str = "") -> None:
        """See `FeatureStore.notify`."""
        await self._notifications.send(channel, payload)

    async def wait_for_notification(self, channel: str, timeout: float) -> str | None:
        """See `FeatureStore.wait_for_notification`."""
        return await self._notifications.wait(channel, timeout)

    async def ping(self) -> None:
        """Send PING. Raises `StoreUnavailable`."""
        checked(await self._exchange.retrying([("PING",)]))

    async def aclose(self) -> None:
        """Close the subscriptions and the connections."""
        await self._notifications.aclose()
        await self._exchange.aclose()


def _paired(reply: list[bytes] | Exception) -> dict[bytes, bytes] | Exception:
    return reply if isinstance(reply, Exception) else dict(zip(reply[::2], reply[1::2], strict=True))


def _record(user_id: str, fields: Mapping[bytes, bytes | None] | Exception) -> UserFeatures:
    return _readable(user_id, fields, from_fields, salvaged)


def _without_content(user_id: str, reply: Sequence[bytes | None]) -> UserFeatures:
    return UserFeatures(user_id, revision=revision_of({REVISION: reply[0]}))


def _readable(
    user_id: str,
    stored: S | Exception,
    decode: Callable[[str, S], UserFeatures],
    salvage: Callable[[str, S], UserFeatures],
) -> UserFeatures:
    if isinstance(stored, Exception):
        if not is_of_another_kind([stored]):
            checked([stored])
        note_unreadable(USER_RECORD, user_id, stored)
        return UserFeatures(user_id, revision=UNREADABLE)
    try:
        return decode(user_id, stored)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        note_unreadable(USER_RECORD, user_id, error)
        return salvage(user_id, stored)
