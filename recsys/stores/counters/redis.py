"""The store of counters on Redis or Valkey: `{prefix}counters:{name}`, a hash of counts with a TTL."""

from collections.abc import Mapping

from redis.exceptions import ResponseError

from recsys.clients.redis import Exchange, checked, packed
from recsys.clients.redis_kinds import SOUND, sound
from recsys.observability.unreadable import COUNTERS, note_unreadable
from recsys.stores.counters.protocol import COUNTER_TTL

TIMEOUT = 1.0
"""Seconds."""
MAX_COUNT = 2**53
"""What no rollout counts up to."""
REFUSED = ("WRONGTYPE", "hash value is not an integer", "increment or decrement would overflow")
"""How the server says that it cannot add to what is stored."""

BEGIN_ANEW = (
    SOUND
    + """
-- KEYS counters; ARGV ttl in seconds, then count, value, ... -> 1
sound(KEYS[1], 'hash')
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('EXPIRE', KEYS[1], ARGV[1])
return 1
"""
)
"""The script that writes counts over those that are none."""


class RedisCounterStore:
    """A `CounterStore` on a Redis or Valkey server."""

    def __init__(self, exchange: Exchange, prefix: str) -> None:
        self._exchange = exchange
        self._prefix = prefix

    async def increment(self, name: str, counts: Mapping[str, int]) -> None:
        """See `CounterStore.increment`; sent once."""
        key = self._key(name)
        commands = [packed("HINCRBY", key, counted, count) for counted, count in counts.items()]
        replies = await self._exchange.once([*commands, packed("EXPIRE", key, COUNTER_TTL)], TIMEOUT)
        damaged = {
            counted: count
            for (counted, count), reply in zip(counts.items(), replies, strict=False)
            if _is_damage(reply, count)
        }
        if not damaged:
            checked(replies)
            return
        note_unreadable(COUNTERS, name, f"counts that are none begin anew: {', '.join(sorted(damaged))}")
        pairs = [part for pair in damaged.items() for part in pair]
        await self._exchange.scripted(BEGIN_ANEW, [([key], [COUNTER_TTL, *pairs])])

    async def read(self, name: str) -> dict[str, int]:
        """See `CounterStore.read`; an entry that is not a number is logged and left out."""
        (fields,) = sound(await self._exchange.retrying([packed("HGETALL", self._key(name))]), COUNTERS, name)
        counts: dict[str, int] = {}
        for counted, count in zip(fields[::2], fields[1::2], strict=True):
            try:
                counts[counted.decode()] = _count(count)
            except ValueError as error:
                note_unreadable(COUNTERS, name, error)
        return counts

    def _key(self, name: str) -> bytes:
        return f"{self._prefix}counters:{name}".encode()


def _is_damage(reply: object, count: int) -> bool:
    """Return whether `reply` to adding `count` says that no count was stored."""
    if isinstance(reply, ResponseError):
        return any(words in str(reply) for words in REFUSED)
    return isinstance(reply, int) and not count <= reply <= MAX_COUNT


def _count(raw: bytes) -> int:
    count = int(raw)
    if not 0 <= count <= MAX_COUNT:
        raise ValueError(f"{count} is no count")
    return count
