"""Presences on Redis or Valkey: one hash, of which every report removes what is too old."""

from contextlib import suppress

import msgspec

from recsys.feature_store import scripts
from recsys.feature_store.exchange import Argument, Exchange, checked, sound
from recsys.feature_store.keys import Keys
from recsys.presence import FORGOTTEN_SECONDS, Presence, Seen
from recsys.unreadable import PRESENCES


class Presences:
    def __init__(self, exchange: Exchange, keys: Keys) -> None:
        self._exchange = exchange
        self._key = keys.presences()

    async def report(self, presence: Presence) -> None:
        told: list[Argument] = [presence.process, msgspec.json.encode(presence), round(1000 * FORGOTTEN_SECONDS)]
        await self._exchange.scripted(scripts.REPORT, [([self._key], told)])

    async def leave(self, process: str) -> None:
        checked(await self._exchange.retrying([("HDEL", self._key, process)]))

    async def seen(self) -> list[Seen]:
        replies = await self._exchange.retrying([("TIME",), ("HVALS", self._key)])
        (seconds, microseconds), told = sound(replies, PRESENCES, "presences")
        now = int(seconds) + int(microseconds) / 1e6
        found = []
        for one in told:
            at, _, raw = one.partition(b" ")
            # What a process of another release says, and this one does not understand, is left out.
            with suppress(msgspec.DecodeError, ValueError):
                found.append(Seen(msgspec.json.decode(raw, type=Presence), max(0.0, now - int(at) / 1000)))
        return sorted(
            (one for one in found if one.age <= FORGOTTEN_SECONDS),
            key=lambda one: (one.presence.program, one.presence.process),
        )
