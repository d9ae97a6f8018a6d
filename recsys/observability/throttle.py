"""Throttle: one log line per cause and minute, however often a request or a poll meets the cause."""

from collections import OrderedDict
from threading import Lock
from time import monotonic
from typing import Any

INTERVAL = 60.0
MAX_CAUSES = 256
"""Causes remembered; of more, those met last."""


class Throttle:
    """Lets each cause pass once per `interval` seconds and counts the rest. For any number of threads."""

    def __init__(self, interval: float = INTERVAL) -> None:
        self._interval = interval
        self._lock = Lock()
        self._causes: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()

    def due(self, event: str, cause: str) -> int:
        """How many occurrences the line to write now stands for, this one included; 0: write none."""
        now_seconds = monotonic()
        with self._lock:
            next_at, held_back = self._causes.pop((event, cause), (now_seconds, 0))
            due = now_seconds >= next_at
            self._causes[event, cause] = (now_seconds + self._interval, 0) if due else (next_at, held_back + 1)
            if len(self._causes) > MAX_CAUSES:
                self._causes.popitem(last=False)
            return held_back + 1 if due else 0


_throttle = Throttle()


def log_throttled(logger: Any, level: str, event: str, *, cause: str = "", **fields: Any) -> None:
    """Log `event` at `level` unless it was logged for this `cause` within the last minute.

    `times` says how often it happened since the line before. A cause is one of a few words of ours (a kind of record,
    an exception's type), never an id: a thousand damaged records make one line.
    """
    times = _throttle.due(event, cause)
    if times:
        getattr(logger, level)(event, times=times, **fields)
