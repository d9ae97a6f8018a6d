"""The store of trends on Redis or Valkey: each record counted once, hours that expire, the heaviest items of each.

`{prefix}trends`                    hash: the highest offset counted, by partition
`{prefix}trend:{partition}:{hour}`  sorted set: item_id scored by its weight in that hour, in thousandths
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from recsys.clients.redis import Argument, Exchange, ScriptCall, packed
from recsys.clients.redis_kinds import SOUND, sound
from recsys.observability.unreadable import TRENDS, note_unreadable
from recsys.recommender.trends import HOUR_MS, TREND_HOURS, TrendCounts
from recsys.stores.topic.protocol import MAX_OFFSET
from recsys.stores.trends.protocol import KEPT_ITEMS

READ_ITEMS = 2000
"""The heaviest that a reader gets of each, so that what it costs to read has a bound too."""

TREND_TTL_MS = (TREND_HOURS + 24) * HOUR_MS

MAX_WEIGHT = 2**53
"""What no hour's counts reach; beyond it a score is not exact."""

COUNT_TRENDS = (
    SOUND
    + f"local most, most_weight = '{MAX_OFFSET}', {MAX_WEIGHT}\n"
    + """
-- KEYS trends, then one per hour; ARGV partition, after, reached, ttl_ms, items kept, then per hour:
-- expires_at_ms, msgpack of item_id, weight, ... -> the offset found, counted where it is `after`,
-- and how many damaged numbers were met
-- Offsets are compared as text: they may be beyond what a Lua number can tell apart.
-- One that is none (MAX_OFFSET), and a weight that is none (MAX_WEIGHT), is of nothing that was counted.
sound(KEYS[1], 'hash')
local found, damaged = redis.call('HGET', KEYS[1], ARGV[1]) or '-1', 0
if found ~= '-1' and (not string.match(found, '^%d+$') or #found > #most or (#found == #most and found > most)) then
  found, damaged = '-1', 1
end
if found ~= ARGV[2] then return {found, damaged} end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
local kept = tonumber(ARGV[5])
for i = 2, #KEYS do
  sound(KEYS[i], 'zset')
  local weights = cmsgpack.unpack(ARGV[2 * i + 3])
  for j = 1, #weights, 2 do
    local weight = tonumber(redis.call('ZINCRBY', KEYS[i], weights[j + 1], weights[j]))
    if not weight or weight < weights[j + 1] or weight > most_weight then
      redis.call('ZADD', KEYS[i], weights[j + 1], weights[j])
      damaged = damaged + 1
    end
  end
  redis.call('PEXPIREAT', KEYS[i], ARGV[2 * i + 2])
  local size = redis.call('ZCARD', KEYS[i])
  if size > kept then redis.call('ZREMRANGEBYRANK', KEYS[i], 0, size - math.ceil(kept / 2) - 1) end
end
return {found, damaged}
"""
)

_encode = msgspec.msgpack.Encoder().encode


class RedisTrendStore:
    """A `TrendStore` on a Redis or Valkey server."""

    def __init__(self, exchange: Exchange, prefix: str) -> None:
        self._exchange = exchange
        self._prefix = prefix
        self._offsets = f"{prefix}trends".encode()

    async def count(self, counts: Sequence[TrendCounts]) -> list[int]:
        """See `TrendStore.count`; each entry is counted by one script."""
        replies = await self._exchange.scripted(COUNT_TRENDS, [self._call(entry) for entry in counts])
        for entry, (_, damaged) in zip(counts, replies, strict=True):
            if damaged:
                note_unreadable(TRENDS, entry.partition, f"{damaged} numbers that are none count as nothing")
        return [int(offset) for offset, _ in replies]

    async def read(self, hours: Sequence[int]) -> dict[int, dict[str, int]]:
        """See `TrendStore.read`; of each partition and hour the heaviest `READ_ITEMS` items."""
        (partitions,) = sound(await self._exchange.retrying([packed("HKEYS", self._offsets)]), TRENDS, "trends")
        read: dict[int, dict[str, int]] = {}
        for hour in hours:
            keys = [self._key(partition.decode(errors="replace"), hour) for partition in partitions]
            ranges = await self._exchange.retrying(
                [packed("ZREVRANGE", key, 0, READ_ITEMS - 1, "WITHSCORES") for key in keys]
            )
            # In a thread: thousands of names, while requests wait for the event loop.
            read[hour] = await asyncio.to_thread(_summed, sound(ranges, TRENDS, f"hour {hour}"))
        return read

    def _call(self, counts: TrendCounts) -> ScriptCall:
        keys = [self._offsets]
        arguments: list[Argument] = [counts.partition, counts.base_offset, counts.reached, TREND_TTL_MS, KEPT_ITEMS]
        for hour, weights in counts.hours.items():
            keys.append(self._key(counts.partition, hour))
            # One argument instead of thousands: the client takes a microsecond for each.
            flat = _encode([part for pair in weights.items() for part in pair])
            arguments += [hour * HOUR_MS + TREND_TTL_MS, flat]
        return keys, arguments

    def _key(self, partition: str, hour: int) -> bytes:
        return f"{self._prefix}trend:{partition}:{hour}".encode()


def _summed(ranges: Sequence[Sequence[Any]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for members in ranges:
        for item_id, weight in zip(members[::2], members[1::2], strict=True):
            # Above 10^17 the server writes an exponent.
            units = float(weight)
            if 0 <= units <= MAX_WEIGHT:
                total[item_id.decode(errors="replace")] += int(units)
            else:
                note_unreadable(TRENDS, item_id.decode(errors="replace"), f"a weight of {units}")
    return dict(total)
