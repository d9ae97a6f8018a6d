"""When to train again: by the clock, or for what has happened since the live version's watermark."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl
from cronsim import CronSim, CronSimError

from recsys.errors import InvalidInput
from recsys.messages.interaction import IMPRESSION
from recsys.models.kinds import RecommenderSection, section_of
from recsys.models.manifest import Manifest
from recsys.stores.event_log import InteractionLog
from training.monitoring.data_shift import DataShift, data_shift


@dataclass(frozen=True, slots=True)
class Schedule:
    """`cron` in the time zone of the moments it is given, `every` after the last run; `None`: never by time."""

    cron: str | None = None
    every: timedelta | None = None

    def __bool__(self) -> bool:
        return self.cron is not None or self.every is not None

    def check(self, moment: datetime) -> None:
        """Check the cron expression; raises `InvalidInput` for an invalid one, or one that no day fulfils."""
        if self.cron is not None:
            _next(self.cron, moment)

    def next(self, moment: datetime) -> datetime | None:
        """Return the first scheduled time after `moment`, or `None`."""
        moments = [_next(self.cron, moment)] if self.cron is not None else []
        moments += [moment + self.every] if self.every is not None else []
        return min(moments, default=None)


def _next(cron: str, moment: datetime) -> datetime:
    try:
        return next(CronSim(cron, moment))
    except (CronSimError, StopIteration) as error:
        raise InvalidInput("schedule", f"{cron!r} is no cron expression of five fields that ever comes true") from error


@dataclass(frozen=True, slots=True)
class Triggers:
    """Conditions of a run: so many events newer than the live version, so large a shift of their items or types, or
    so large a `drop` of the live version's recall on them, as a share of what its manifest promised.

    `None` switches a trigger off. A shift of fewer than `shift_events` new events is ignored as chance.
    """

    events: int | None = None
    shift: float | None = None
    drop: float | None = None
    shift_events: int = 2000

    def __bool__(self) -> bool:
        return any(limit is not None for limit in (self.events, self.shift, self.drop))


def due(triggers: Triggers, shift: DataShift) -> list[str]:
    """Return every reason to train now; empty for none."""
    reasons = []
    if triggers.events is not None and shift.new_events >= triggers.events:
        reasons.append(f"{shift.new_events} new events (--when-events {triggers.events})")
    if triggers.shift is not None and shift.new_events >= triggers.shift_events:
        for name, value in (("items", shift.items), ("types", shift.types)):
            if value >= triggers.shift:
                reasons.append(f"{name} have shifted by {value:.3f} (--when-shift {triggers.shift:g})")
    return reasons


def since(log: InteractionLog, live: Manifest, *, shares: bool) -> DataShift:
    """Count the events that `live` has not learned from; with `shares`, compare their items and types too.

    An event that arrives late, with a time before the watermark, is not new. Raises `LogUnavailable`.
    """
    watermark = section_of(live, RecommenderSection).watermark
    tastes = log.read().filter(pl.col("type") != IMPRESSION)
    if not shares:
        newer = tastes.filter(pl.col("occurred_at") > watermark).select(pl.len()).collect().item()
        return DataShift(None, newer)
    return data_shift(tastes.select("occurred_at", "item_id", "type").collect(), watermark, ())
