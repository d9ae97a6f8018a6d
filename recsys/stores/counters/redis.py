"""The store of counters on Redis or Valkey: `{prefix}counters:{name}`, a hash of counts with a TTL."""

from collections.abc import Mapping

from recsys.clients.redis import Exchange, checked, packed
from recsys.clients.redis_kinds import CLEAR, is_of_another_kind, sound
from recsys.observability.unreadable import COUNTERS, note_unreadable
from recsys.stores.counters.protocol import COUNTER_TTL

TIMEOUT = 1.0
"""Seconds."""


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
        if is_of_another_kind(replies):
            await self._exchange.scripted(CLEAR, [([key], ["hash"])])
        checked(replies)

    async def read(self, name: str) -> dict[str, int]:
        """See `CounterStore.read`; an entry that is not a number is logged and left out."""
        (fields,) = sound(await self._exchange.retrying([packed("HGETALL", self._key(name))]), COUNTERS, name)
        counts: dict[str, int] = {}
        for counted, count in zip(fields[::2], fields[1::2], strict=True):
            try:
                counts[counted.decode()] = int(count)
            except ValueError as error:
                note_unreadable(COUNTERS, name, error)
        return counts

    def _key(self, name: str) -> bytes:
        return f"{self._prefix}counters:{name}".encode()
