"""The store of items on Redis or Valkey: merged by compare-and-set, with a feed of what changed.

`{prefix}item:{item_id}`  string: the item as JSON
`{prefix}items:changed`   sorted set: item_id scored by the revision of its last change
"""

from collections.abc import Sequence
from functools import partial
from itertools import islice

import msgspec

from recsys.clients.redis import Exchange, ScriptCall, packed
from recsys.clients.redis_kinds import SOUND, sound
from recsys.errors import InvalidInput, StoreUnavailable
from recsys.messages.item import Item, hidden_item, stored_item
from recsys.observability.unreadable import CATALOGUE_ENTRY, FEED, note_unreadable
from recsys.retries import compare_and_set
from recsys.settings import StoreSettings
from recsys.stores.items.merging import Put, Updates, applied, by_item
from recsys.stores.items.protocol import ItemChanges
from recsys.stores.notifications import ITEMS_CHANNEL, Notifications

CHUNK = 500
"""Items per round trip: the server does nothing else during a script (about a millisecond)."""
ATTEMPTS = 20
LAST_REVISION = 2**53 - 1
"""The server's scores are floats: beyond it there is no next one."""

PUT_ITEMS = (
    SOUND
    + """
-- KEYS items:changed, items; ARGV ttl_ms, then per item: expected value ('' for none), new value, item_id
-- -> per item 1 where written
-- A revision is the time in microseconds, or one more than the last: it grows on even when all data was lost,
-- and tells which members have outlived their item.
sound(KEYS[1], 'zset')
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
-- Nothing comes after a revision that no number is greater than: whatever has one changed now.
for i, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '9007199254740991', '+inf')) do
  redis.call('ZADD', KEYS[1], string.format('%.0f', now + i), member)
end
local top = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local revision = math.max(now, top[2] and tonumber(top[2]) + 1 or 0)
local written, any = {}, false
for i = 2, #KEYS do
  local at = 2 + (i - 2) * 3
  local stored = redis.pcall('GET', KEYS[i])
  if not stored or type(stored) == 'table' then stored = '' end
  if stored == ARGV[at] then
    redis.call('SET', KEYS[i], ARGV[at + 1], 'PX', ARGV[1])
    redis.call('ZADD', KEYS[1], string.format('%.0f', revision), ARGV[at + 2])
    revision, any = revision + 1, true
    written[i - 1] = 1
  else
    written[i - 1] = 0
  end
end
if any then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - 1000 * tonumber(ARGV[1])))
end
return written
"""
)

_encode = msgspec.json.Encoder().encode


class RedisItemStore:
    """An `ItemStore` on a Redis or Valkey server."""

    def __init__(self, exchange: Exchange, notifications: Notifications, settings: StoreSettings) -> None:
        self._exchange = exchange
        self._notifications = notifications
        self._prefix = settings.prefix
        self._feed = f"{settings.prefix}items:changed".encode()
        self._ttl_ms = round(settings.item_ttl * 1000)

    async def put(self, items: Sequence[Item], *, whole: bool = False) -> dict[int, InvalidInput]:
        """See `ItemStore.put`; merged in chunks of `CHUNK` items."""
        put = Put()
        updates = iter(by_item(items).items())
        while chunk := dict(islice(updates, CHUNK)):
            lost = await compare_and_set(chunk, partial(self._put, put=put, whole=whole), ATTEMPTS)
            if lost:
                raise StoreUnavailable(f"{len(lost)} items keep changing under this writer")
        if put.changed:
            await self._notifications.send(ITEMS_CHANNEL)
        return put.refused

    async def get(self, item_ids: Sequence[str]) -> list[Item | None]:
        """See `ItemStore.get`; in chunks of `CHUNK` items."""
        items: list[Item | None] = []
        for start in range(0, len(item_ids), CHUNK):
            chunk = item_ids[start : start + CHUNK]
            items += [_shown(item_id, raw) for item_id, raw in zip(chunk, await self._raw(chunk), strict=True)]
        return items

    async def changes(self, since: int, limit: int = 10_000) -> ItemChanges:
        """See `ItemStore.changes`; items that expired are left out."""
        feed = self._feed
        reachable = packed("ZREVRANGEBYSCORE", feed, LAST_REVISION, 0, "WITHSCORES", "LIMIT", 0, 1)
        (newest,) = sound(await self._exchange.retrying([reachable]), FEED, "items:changed")
        reached = int(float(newest[1])) if newest else 0
        lower = f"({since}" if 0 < since <= reached else "-inf"
        page = packed("ZRANGEBYSCORE", feed, lower, "+inf", "WITHSCORES", "LIMIT", 0, limit + 1)
        (flat,) = sound(await self._exchange.retrying([page]), FEED, "items:changed")
        ids, scores = flat[0::2][:limit], [float(score) for score in flat[1::2][:limit]]
        items = await self.get([_named(member) for member in ids])
        revisions = [int(score) for score in scores if 0 < score <= LAST_REVISION]
        if len(revisions) < len(scores):
            # These come each time, until the next change of any item gives them a revision.
            note_unreadable(FEED, "items:changed", f"{len(scores) - len(revisions)} revisions that are none")
        return ItemChanges(
            revision=max(revisions, default=reached),
            items=[item for item in items if item is not None],
            complete=len(flat) // 2 <= limit,
        )

    async def _put(self, items: dict[str, Updates], put: Put, *, whole: bool) -> dict[str, Updates]:
        """Merge the updates of each item once; returns those of items that changed in between."""
        writes: list[tuple[str, bytes | None, bytes]] = []
        for item_id, raw in zip(items, await self._raw(list(items)), strict=True):
            current = _read(item_id, raw)
            updates = items[item_id] if current or not raw else _replacing(items[item_id], whole=whole)
            new, refused = applied(current, updates)
            put.refuse(items[item_id], refused)
            if new is not None and new != current:
                writes.append((item_id, raw, _encode(new)))
        if not writes:
            return {}
        (written,) = await self._exchange.scripted(PUT_ITEMS, [self._call(writes)])
        put.changed |= 1 in written
        return {item_id: items[item_id] for (item_id, _, _), done in zip(writes, written, strict=True) if not done}

    def _call(self, writes: list[tuple[str, bytes | None, bytes]]) -> ScriptCall:
        keys = [self._feed, *(self._key(item_id) for item_id, _, _ in writes)]
        arguments = [part for item_id, raw, new in writes for part in (raw or b"", new, item_id)]
        return keys, [self._ttl_ms, *arguments]

    async def _raw(self, item_ids: Sequence[str]) -> list[bytes | None]:
        if not item_ids:
            return []
        (values,) = await self._exchange.replies([packed("MGET", *map(self._key, item_ids))])
        entries: list[bytes | None] = values
        return entries

    def _key(self, item_id: str) -> bytes:
        return f"{self._prefix}item:{item_id}".encode("utf-8", "surrogatepass")


def _read(item_id: str, raw: bytes | None) -> Item | None:
    """`None` also for an entry that is there and cannot be read."""
    if not raw:
        return None
    try:
        return stored_item(raw)
    except ValueError as error:
        note_unreadable(CATALOGUE_ENTRY, item_id, error)
        return None


def _named(member: bytes) -> str:
    """The empty text, which no item is named, for what is none."""
    try:
        return member.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        note_unreadable(FEED, "items:changed", error)
        return ""


def _shown(item_id: str, raw: bytes | None) -> Item | None:
    return _read(item_id, raw) or (hidden_item(item_id) if raw else None)


def _replacing(updates: Updates, *, whole: bool) -> Updates:
    """What may take the place of an entry that cannot be read, from the first on that says whether to show the item."""
    first = next((at for at, (_, update) in enumerate(updates) if whole or update.available is not None), len(updates))
    return updates[first:]
