"""Validation beyond the form of a message: the same rules for HTTP and for readers of the topic."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from recsys.errors import InvalidInput
from recsys.messages.interaction import Merge
from recsys.messages.item import Item
from recsys.messages.limits import ReasonCode
from recsys.messages.wire import Message

CLOCK_SKEW = 60.0
"""Seconds by which two machines' clocks may differ: readers of the topic allow for it on top of the door's bounds.

So what the door accepts by its own clock is not refused by a consumer whose clock is behind.
"""


class Bounds(Protocol):
    """Settings that bound the time of a message (`recsys.settings.TimeBounds`)."""

    @property
    def earliest(self) -> datetime:
        """Nothing is older."""

    @property
    def future_tolerance(self) -> float:
        """Seconds ahead of the clock."""


@dataclass(frozen=True, slots=True)
class TimeSpan:
    """When a message may say that it happened."""

    earliest: datetime
    latest: datetime

    def violation(self, at: datetime) -> ReasonCode | None:
        """Return how `at` lies outside, if it does."""
        if at > self.latest:
            return ReasonCode.IN_FUTURE
        return ReasonCode.TOO_OLD if at < self.earliest else None

    def reason(self, violation: ReasonCode) -> str:
        """Return the words for a violation."""
        return "in the future" if violation is ReasonCode.IN_FUTURE else f"before {self.earliest.date()}"


def span_at_door(bounds: Bounds, now_time: datetime) -> TimeSpan:
    """The times that the door accepts at `now_time`."""
    return TimeSpan(bounds.earliest, now_time + timedelta(seconds=bounds.future_tolerance))


def span_on_topic(bounds: Bounds, now_time: datetime) -> TimeSpan:
    """The times that a reader of the topic accepts at `now_time`: `CLOCK_SKEW` more than the door."""
    return TimeSpan(bounds.earliest, now_time + timedelta(seconds=bounds.future_tolerance + CLOCK_SKEW))


def validate(message: Message, span: TimeSpan) -> None:
    """Check the message's times and ids. Raises `InvalidInput` naming the field that breaks a rule."""
    at = message.updated_at if isinstance(message, Item) else message.occurred_at
    violation = span.violation(at)
    if violation is not None:
        field = "updated_at" if isinstance(message, Item) else "occurred_at"
        raise InvalidInput(field, f"{at.isoformat()} is {span.reason(violation)}", violation)
    if isinstance(message, Merge) and message.into == message.user_id:
        raise InvalidInput("into", "is the user itself")
