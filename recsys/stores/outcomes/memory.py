"""The store of outcomes inside one process, for tests and experiments; nothing outlives it."""

from collections.abc import Iterable, Mapping

from recsys.experiments.rollout import UNITS, Outcome


class MemoryOutcomeStore:
    """An `OutcomeStore` of bitmaps."""

    def __init__(self) -> None:
        self._bitmaps: dict[str, dict[Outcome, bytearray]] = {}

    async def record(self, experiment: str, outcomes: Mapping[Outcome, Iterable[int]]) -> None:
        """See `OutcomeStore.record`."""
        for outcome, units in outcomes.items():
            bitmap = self._bitmaps.setdefault(experiment, {}).setdefault(outcome, bytearray(UNITS // 8))
            for unit in units:
                bitmap[unit >> 3] |= 0x80 >> (unit & 7)

    async def read(self, experiment: str) -> dict[Outcome, bytes]:
        """See `OutcomeStore.read`; every bitmap has `UNITS` / 8 bytes."""
        return {outcome: bytes(bitmap) for outcome, bitmap in self._bitmaps.get(experiment, {}).items()}
