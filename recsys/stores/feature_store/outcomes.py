"""Outcomes and counters of rollouts on Redis or Valkey: bitmaps of units, and hashes of counts, with a TTL each."""

from collections.abc import Iterable, Mapping

from recsys.clients.redis import Exchange, checked, is_of_another_kind, packed, sound
from recsys.experiments.rollout import Outcome
from recsys.observability.unreadable import COUNTERS, note_unreadable
from recsys.stores.feature_store import scripts
from recsys.stores.feature_store.keys import Keys
from recsys.stores.feature_store.protocol import OUTCOME_TTL

TOGETHER = 1000
"""Units set by one command."""
TALLY_TIMEOUT = 1.0
"""Seconds."""


class Outcomes:
    """Records and reads outcomes and counters. Every method raises `StoreUnavailable`."""

    def __init__(self, exchange: Exchange, keys: Keys) -> None:
        self._exchange = exchange
        self._keys = keys

    async def record_outcomes(self, experiment: str, outcomes: Mapping[Outcome, Iterable[int]]) -> None:
        """Set the bits of the units per outcome, and renew the TTL of each bitmap."""
        commands = []
        for outcome, marked in outcomes.items():
            key, units = self._keys.outcome(experiment, outcome), list(marked)
            for start in range(0, len(units), TOGETHER):
                bits = [part for unit in units[start : start + TOGETHER] for part in ("SET", "u1", unit, 1)]
                commands += [packed("BITFIELD", key, *bits), packed("EXPIRE", key, OUTCOME_TTL)]
        replies = await self._exchange.retrying(commands)
        if is_of_another_kind(replies):
            sound(replies, COUNTERS, experiment)
            keys = [self._keys.outcome(experiment, outcome) for outcome in outcomes]
            await self._exchange.scripted(scripts.CLEAR, [(keys, ["string"])])
            replies = await self._exchange.retrying(commands)
        checked(replies)

    async def outcomes(self, experiment: str) -> dict[Outcome, bytes]:
        """The bitmap per outcome; an outcome without marks is left out."""
        commands = [packed("GET", self._keys.outcome(experiment, outcome)) for outcome in Outcome]
        bitmaps = sound(await self._exchange.retrying(commands), COUNTERS, experiment)
        return {outcome: bitmap for outcome, bitmap in zip(Outcome, bitmaps, strict=True) if bitmap}

    async def increment(self, name: str, counts: Mapping[str, int]) -> None:
        """Add `counts` to those under `name`, once: a failed call may or may not have counted."""
        key = self._keys.counters(name)
        commands = [packed("HINCRBY", key, counted, count) for counted, count in counts.items()]
        replies = await self._exchange.once([*commands, packed("EXPIRE", key, OUTCOME_TTL)], TALLY_TIMEOUT)
        if is_of_another_kind(replies):
            await self._exchange.scripted(scripts.CLEAR, [([key], ["hash"])])
        checked(replies)

    async def counters(self, name: str) -> dict[str, int]:
        """The running counts under `name`; an entry that is not a number is logged and left out."""
        (fields,) = sound(await self._exchange.retrying([packed("HGETALL", self._keys.counters(name))]), COUNTERS, name)
        counts: dict[str, int] = {}
        for counted, count in zip(fields[::2], fields[1::2], strict=True):
            try:
                counts[counted.decode()] = int(count)
            except ValueError as error:
                note_unreadable(COUNTERS, name, error)
        return counts
