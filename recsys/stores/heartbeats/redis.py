"""The store of heartbeats on Redis or Valkey, a hash of which every report removes what is too old.

`{prefix}heartbeats`  hash: when a process reported last (ms) and what, by its name
"""

from contextlib import suppress

import msgspec

from recsys.clients.redis import Argument, Exchange, packed
from recsys.clients.redis_kinds import SOUND, sound
from recsys.observability.unreadable import HEARTBEATS
from recsys.stores.heartbeats.protocol import FORGOTTEN_SECONDS, Heartbeat, Instance

REPORT = (
    SOUND
    + """
-- KEYS heartbeats; ARGV process, what it reports, ttl_ms
sound(KEYS[1], 'hash')
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f ', now) .. ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local at = tonumber(string.match(all[i + 1], '^%d+'))
  if not at or at < now - tonumber(ARGV[3]) then redis.call('HDEL', KEYS[1], all[i]) end
end
return 1
"""
)


class RedisHeartbeatStore:
    """A `HeartbeatStore` on a Redis or Valkey server."""

    def __init__(self, exchange: Exchange, prefix: str) -> None:
        self._exchange = exchange
        self._key = f"{prefix}heartbeats".encode()

    async def report(self, heartbeat: Heartbeat) -> None:
        """See `HeartbeatStore.report`; under the time of the server."""
        arguments: list[Argument] = [heartbeat.process, msgspec.json.encode(heartbeat), round(1000 * FORGOTTEN_SECONDS)]
        await self._exchange.scripted(REPORT, [([self._key], arguments)])

    async def leave(self, process: str) -> None:
        """See `HeartbeatStore.leave`."""
        await self._exchange.replies([packed("HDEL", self._key, process)])

    async def instances(self) -> list[Instance]:
        """See `HeartbeatStore.instances`; ages by the server's clock."""
        replies = await self._exchange.retrying([packed("TIME"), packed("HVALS", self._key)])
        (seconds, microseconds), reports = sound(replies, HEARTBEATS, "heartbeats")
        now_seconds = int(seconds) + int(microseconds) / 1e6
        instances = []
        for report in reports:
            at, _, raw = report.partition(b" ")
            # What a process of another release says, and this one does not understand, is left out.
            with suppress(msgspec.DecodeError, ValueError):
                instances.append(
                    Instance(msgspec.json.decode(raw, type=Heartbeat), max(0.0, now_seconds - int(at) / 1000))
                )
        return sorted(
            (instance for instance in instances if instance.age <= FORGOTTEN_SECONDS),
            key=lambda instance: (instance.heartbeat.program, instance.heartbeat.process),
        )
