"""The store of outcomes: which units of a rollout had which outcome, as bitmaps.

Both programs write it, each its own half: the service knows which user got which answer, and notes everything but
conversions; ingest knows what the user did then, and notes conversions alone. The service and operators read it.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

from recsys.experiments.rollout import Outcome

OUTCOME_TTL = 60 * 86_400
"""Seconds that outcomes stay after the last one."""


class OutcomeStore(Protocol):
    """Outcomes of rollouts. Methods raise `StoreUnavailable` when the server does not answer in time."""

    async def record(self, experiment: str, outcomes: Mapping[Outcome, Iterable[int]]) -> None:
        """Mark the units (0 to `UNITS` - 1) that had each of these outcomes; idempotent."""
        ...

    async def read(self, experiment: str) -> dict[Outcome, bytes]:
        """The units per outcome: bit 7 of byte 0 is unit 0; a unit beyond the bytes has no mark."""
        ...
