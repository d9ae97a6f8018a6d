"""Outcomes and counters of rollouts on Redis or Valkey: bitmaps of units, and hashes of counts, with a TTL each."""

from collections.abc import Iterable, Mapping

from recsys.feature_store.exchange import Exchange, checked, packed
from recsys.feature_store.keys import Keys
from recsys.feature_store.protocol import OUTCOME_TTL
from recsys.rollout import Outcome
from recsys.unreadable import TALLY, note_unreadable

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
        checked(await self._exchange.retrying(commands))

    async def outcomes(self, experiment: str) -> dict[Outcome, bytes]:
        """The bitmap per outcome; an outcome without marks is left out."""
        commands = [packed("GET", self._keys.outcome(experiment, outcome)) for outcome in Outcome]
        bitmaps = checked(await self._exchange.retrying(commands))
        return {outcome: bitmap for outcome, bitmap in zip(Outcome, bitmaps, strict=True) if bitmap is not None}

    async def increment(self, name: str, counts: Mapping[str, int]) -> None:
        """Add `counts` to those under `name`, once: a failed call may or may not have counted."""
        key = self._keys.counters(name)
        commands = [packed("HINCRBY", key, counted, count) for counted, count in counts.items()]
        checked(await self._exchange.once([*commands, packed("EXPIRE", key, OUTCOME_TTL)], TALLY_TIMEOUT))

    async def counters(self, name: str) -> dict[str, int]:
        """The running counts under `name`; an entry that is not a number is logged and left out."""
        (fields,) = checked(await self._exchange.retrying([packed("HGETALL", self._keys.counters(name))]))
        counts: dict[str, int] = {}
        for counted, count in zip(fields[::2], fields[1::2], strict=True):
            try:
                counts[counted.decode()] = int(count)
            except ValueError as error:
                note_unreadable(TALLY, name, error)
        return counts
