"""Heartbeats on Redis or Valkey: one hash, of which every report removes what is too old."""

from contextlib import suppress

import msgspec

from recsys.clients.redis import Argument, Exchange, checked, sound
from recsys.observability.unreadable import HEARTBEATS
from recsys.stores.feature_store import scripts
from recsys.stores.feature_store.keys import Keys
from recsys.stores.heartbeat import FORGOTTEN_SECONDS, Heartbeat, Instance


class Heartbeats:
    """The heartbeats of every running process. Every method raises `StoreUnavailable`."""

    def __init__(self, exchange: Exchange, keys: Keys) -> None:
        self._exchange = exchange
        self._key = keys.heartbeats()

    async def report(self, heartbeat: Heartbeat) -> None:
        """Store `heartbeat` under the time of the server, and remove those that are too old."""
        arguments: list[Argument] = [heartbeat.process, msgspec.json.encode(heartbeat), round(1000 * FORGOTTEN_SECONDS)]
        await self._exchange.scripted(scripts.REPORT, [([self._key], arguments)])

    async def leave(self, process: str) -> None:
        """Remove the heartbeat of `process`."""
        checked(await self._exchange.retrying([("HDEL", self._key, process)]))

    async def instances(self) -> list[Instance]:
        """The last report of every process, sorted by program and name; ages by the server's clock."""
        replies = await self._exchange.retrying([("TIME",), ("HVALS", self._key)])
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
