"""The feature store on Redis or Valkey; the layout is in `keys`, what is atomic is in `scripts`.

The server needs `maxmemory-policy noeviction` or `volatile-*` with room to spare: an evicted record is a
user forgotten. Everything written carries a TTL.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import msgspec

from recsys.errors import InvalidInput
from recsys.feature_store import scripts
from recsys.feature_store.exchange import Exchange, ScriptCall, checked, is_of_another_kind, packer
from recsys.feature_store.items import ItemCatalogue
from recsys.feature_store.keys import (
    REVISION,
    Keys,
    from_fields,
    from_reply,
    revision_of,
    salvaged,
    serving_fields,
    to_fields,
)
from recsys.feature_store.nudges import Nudges
from recsys.feature_store.outcomes import Outcomes
from recsys.feature_store.presences import Presences
from recsys.feature_store.protocol import ITEMS_CHANNEL, UNREADABLE, ItemChanges
from recsys.feature_store.trends import TrendCounters
from recsys.item import Item
from recsys.presence import Presence, Seen
from recsys.rollout import Outcome
from recsys.settings import StoreSettings
from recsys.trend import TrendCounts
from recsys.unreadable import USER_RECORD, note_unreadable
from recsys.user_features import UserFeatures

S = TypeVar("S")

CHUNK = 500
"""Users per round trip."""


class RedisFeatureStore:
    """A `FeatureStore`."""

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        self._keys = Keys(settings.prefix)
        self._exchange = Exchange(settings)
        self._catalogue = ItemCatalogue(self._exchange, self._keys, settings.item_ttl)
        self._trends = TrendCounters(self._exchange, self._keys)
        self._outcomes = Outcomes(self._exchange, self._keys)
        self._presences = Presences(self._exchange, self._keys)
        self._nudges = Nudges(settings)

    async def read(
        self, user_ids: Sequence[str], version: str | None = None, *, shown: bool = False, patient: bool = False
    ) -> list[UserFeatures]:
        command = packer(b"HMGET", serving_fields(version, shown=shown))
        commands = [command(self._keys.user(user_id)) for user_id in user_ids]
        timeout = self._settings.timeout if patient else self._settings.read_timeout
        replies = await self._exchange.once(commands, timeout)
        decode = partial(from_reply, version=version, shown=shown)
        return [
            _readable(user_id, reply, decode, _without_content)
            for user_id, reply in zip(user_ids, replies, strict=True)
        ]

    async def load(self, user_ids: Sequence[str]) -> list[UserFeatures]:
        chunks = [user_ids[start : start + CHUNK] for start in range(0, len(user_ids), CHUNK)]
        return [one for chunk in await asyncio.gather(*map(self._load, chunks)) for one in chunk]

    async def _load(self, user_ids: Sequence[str]) -> list[UserFeatures]:
        command = packer(b"HGETALL", ())
        replies = await self._exchange.retrying([command(self._keys.user(user_id)) for user_id in user_ids])
        return [_record(user_id, _paired(reply)) for user_id, reply in zip(user_ids, replies, strict=True)]

    async def save(self, features: Sequence[UserFeatures]) -> list[bool]:
        chunks = [features[start : start + CHUNK] for start in range(0, len(features), CHUNK)]
        return [done for chunk in await asyncio.gather(*map(self._save, chunks)) for done in chunk]

    async def _save(self, features: Sequence[UserFeatures]) -> list[bool]:
        return [done == 1 for done in await self._exchange.scripted(scripts.SAVE, map(self._save_call, features))]

    def _save_call(self, features: UserFeatures) -> ScriptCall:
        fields = [part for field in to_fields(features).items() for part in field]
        revision, ttl = b"%d" % features.revision, b"%d" % round(self._settings.user_ttl * 1000)
        return [self._keys.user(features.user_id)], [revision, ttl, *fields]

    async def put_items(self, items: Sequence[Item], *, whole: bool = False) -> dict[int, InvalidInput]:
        put = await self._catalogue.put(items, whole=whole)
        if put.changed:
            await self.nudge(ITEMS_CHANNEL)
        return put.refused

    async def get_items(self, item_ids: Sequence[str]) -> list[Item | None]:
        return await self._catalogue.get(item_ids)

    async def items_changed(self, since: int, limit: int = 10_000) -> ItemChanges:
        return await self._catalogue.changed(since, limit)

    async def count_trends(self, counts: Sequence[TrendCounts]) -> list[int]:
        return await self._trends.count(counts)

    async def trends(self, hours: Sequence[int]) -> dict[int, dict[str, int]]:
        return await self._trends.read(hours)

    async def mark(self, experiment: str, outcomes: Mapping[Outcome, Iterable[int]]) -> None:
        await self._outcomes.mark(experiment, outcomes)

    async def marks(self, experiment: str) -> dict[Outcome, bytes]:
        return await self._outcomes.marks(experiment)

    async def tally(self, name: str, counts: Mapping[str, int]) -> None:
        await self._outcomes.tally(name, counts)

    async def tallies(self, name: str) -> dict[str, int]:
        return await self._outcomes.tallies(name)

    async def report(self, presence: Presence) -> None:
        await self._presences.report(presence)

    async def leave(self, process: str) -> None:
        await self._presences.leave(process)

    async def seen(self) -> list[Seen]:
        return await self._presences.seen()

    async def nudge(self, channel: str, payload: str = "") -> None:
        await self._nudges.send(channel, payload)

    async def wait_for_nudge(self, channel: str, timeout: float) -> str | None:
        return await self._nudges.wait(channel, timeout)

    async def ping(self) -> None:
        checked(await self._exchange.retrying([("PING",)]))

    async def aclose(self) -> None:
        await self._nudges.aclose()
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
