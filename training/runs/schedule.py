"""Schedule: when the next run is, by a cron expression or an interval."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from cronsim import CronSim, CronSimError

from recsys.errors import InvalidInput


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
