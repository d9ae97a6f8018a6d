"""The store of users on Redis or Valkey: `{prefix}user:{user_id}`, a hash (`record`) with a TTL.

The server needs `maxmemory-policy noeviction` or `volatile-*` with room to spare: an evicted record is a
user forgotten. Everything written carries a TTL.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import msgspec

from recsys.clients.redis import Exchange, ScriptCall, checked, packer
from recsys.clients.redis_kinds import is_of_another_kind
from recsys.observability.unreadable import USER_RECORD, note_unreadable
from recsys.settings import StoreSettings
from recsys.stores.users.protocol import UNREADABLE
from recsys.stores.users.record import (
    REVISION,
    from_fields,
    from_reply,
    revision_of,
    salvaged,
    serving_fields,
    to_fields,
)
from recsys.users import UserFeatures

S = TypeVar("S")

CHUNK = 500
"""Users per round trip."""

SAVE = """
-- KEYS user; ARGV expected revision, ttl_ms, then field, value, ... -> 1 where written
-- A revision that is no number, or a key that is no hash, counts as revision -1 (UNREADABLE).
local stored = redis.pcall('HGET', KEYS[1], 'r')
if not stored then
  stored = '0'
elseif type(stored) == 'table' then
  if not string.find(stored.err, 'WRONGTYPE') then return stored end
  stored = '-1'
elseif #stored > 15 or not string.match(stored, '^%d+$') then
  stored = '-1'
end
if tonumber(stored) ~= tonumber(ARGV[1]) then return 0 end
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then redis.call('DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], 'r', string.format('%.0f', math.max(tonumber(stored), 0) + 1), unpack(ARGV, 3))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local kept = {r = true}
for i = 3, #ARGV, 2 do kept[ARGV[i]] = true end
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if not kept[field] then redis.call('HDEL', KEYS[1], field) end
end
return 1
"""


class RedisUserStore:
    """A `UserStore` on a Redis or Valkey server: one key each, so that a script, an erasure and a TTL concern one."""

    def __init__(self, exchange: Exchange, settings: StoreSettings) -> None:
        self._exchange = exchange
        self._settings = settings

    async def read(
        self, user_ids: Sequence[str], version: str | None = None, *, shown: bool = False, batch: bool = False
    ) -> list[UserFeatures]:
        """See `UserStore.read`; one HMGET per user, in one round trip that is not repeated."""
        command = packer(b"HMGET", serving_fields(version, shown=shown))
        commands = [command(self._key(user_id)) for user_id in user_ids]
        timeout = self._settings.timeout if batch else self._settings.read_timeout
        replies = await self._exchange.once(commands, timeout)
        decode = partial(from_reply, version=version, shown=shown)
        return [
            _readable(user_id, reply, decode, _without_content)
            for user_id, reply in zip(user_ids, replies, strict=True)
        ]

    async def load(self, user_ids: Sequence[str]) -> list[UserFeatures]:
        """See `UserStore.load`; chunks of `CHUNK` users are read at the same time."""
        chunks = [user_ids[start : start + CHUNK] for start in range(0, len(user_ids), CHUNK)]
        return [record for chunk in await asyncio.gather(*map(self._load, chunks)) for record in chunk]

    async def _load(self, user_ids: Sequence[str]) -> list[UserFeatures]:
        command = packer(b"HGETALL", ())
        replies = await self._exchange.retrying([command(self._key(user_id)) for user_id in user_ids])
        return [_record(user_id, _paired(reply)) for user_id, reply in zip(user_ids, replies, strict=True)]

    async def save(self, features: Sequence[UserFeatures]) -> list[bool]:
        """See `UserStore.save`; each record is written by one script."""
        chunks = [features[start : start + CHUNK] for start in range(0, len(features), CHUNK)]
        return [done for chunk in await asyncio.gather(*map(self._save, chunks)) for done in chunk]

    async def _save(self, features: Sequence[UserFeatures]) -> list[bool]:
        return [done == 1 for done in await self._exchange.scripted(SAVE, map(self._save_call, features))]

    def _save_call(self, features: UserFeatures) -> ScriptCall:
        fields = [part for field in to_fields(features).items() for part in field]
        revision, ttl = b"%d" % features.revision, b"%d" % round(self._settings.user_ttl * 1000)
        return [self._key(features.user_id)], [revision, ttl, *fields]

    def _key(self, user_id: str) -> bytes:
        # Ids are any text: an odd one is unknown, not an error.
        return f"{self._settings.prefix}user:{user_id}".encode("utf-8", "surrogatepass")


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
