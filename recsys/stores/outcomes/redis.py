"""The store of outcomes on Redis or Valkey: `{prefix}outcome:{experiment}:{outcome}`, a bitmap of units with a TTL."""

from collections.abc import Iterable, Mapping

from recsys.clients.redis import Exchange, checked, packed
from recsys.clients.redis_kinds import CLEAR, is_of_another_kind, sound
from recsys.experiments.rollout import Outcome
from recsys.observability.unreadable import COUNTERS
from recsys.stores.outcomes.protocol import OUTCOME_TTL

TOGETHER = 1000
"""Units set by one command."""


class RedisOutcomeStore:
    """An `OutcomeStore` on a Redis or Valkey server."""

    def __init__(self, exchange: Exchange, prefix: str) -> None:
        self._exchange = exchange
        self._prefix = prefix

    async def record(self, experiment: str, outcomes: Mapping[Outcome, Iterable[int]]) -> None:
        """See `OutcomeStore.record`; renews the TTL of each bitmap."""
        commands = []
        for outcome, marked in outcomes.items():
            key, units = self._key(experiment, outcome), list(marked)
            for start in range(0, len(units), TOGETHER):
                bits = [part for unit in units[start : start + TOGETHER] for part in ("SET", "u1", unit, 1)]
                commands += [packed("BITFIELD", key, *bits), packed("EXPIRE", key, OUTCOME_TTL)]
        replies = await self._exchange.retrying(commands)
        if is_of_another_kind(replies):
            sound(replies, COUNTERS, experiment)
            keys = [self._key(experiment, outcome) for outcome in outcomes]
            await self._exchange.scripted(CLEAR, [(keys, ["string"])])
            replies = await self._exchange.retrying(commands)
        checked(replies)

    async def read(self, experiment: str) -> dict[Outcome, bytes]:
        """See `OutcomeStore.read`; an outcome without marks is left out."""
        commands = [packed("GET", self._key(experiment, outcome)) for outcome in Outcome]
        bitmaps = sound(await self._exchange.retrying(commands), COUNTERS, experiment)
        return {outcome: bitmap for outcome, bitmap in zip(Outcome, bitmaps, strict=True) if bitmap}

    def _key(self, experiment: str, outcome: Outcome) -> bytes:
        return f"{self._prefix}outcome:{experiment}:{outcome}".encode()
