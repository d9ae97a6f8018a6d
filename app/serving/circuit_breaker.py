"""CircuitBreaker: stops calls of a store that fails, and probes whether it has recovered.

The three states are those of Nygard, Release It! (2007). Pure: the clock and the chance are passed in.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import random
from time import monotonic

import structlog

from app.metrics import CIRCUIT_OPEN

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """Opens after `consecutive` failures, or `failures` among the last `window` calls.

    Open times are in seconds: from `first_open`, twice as long after every probe that failed, up to `longest_open`;
    each is shortened by up to half at random, so that replicas do not come back together. The longest one bounds
    how long a store that is back is left alone.
    """

    consecutive: int = 5
    failures: int = 20
    window: int = 40
    first_open: float = 0.1
    longest_open: float = 2.0


class CircuitBreaker:
    """Ask `allow` before a call, and report how it ended. Not for threads: it lives on the event loop.

    A probe whose outcome is never reported, as when its caller was cancelled, is given up after the open time.
    """

    def __init__(
        self,
        policy: BreakerPolicy = BreakerPolicy(),
        clock: Callable[[], float] = monotonic,
        chance: Callable[[], float] = random,
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._chance = chance
        self._recent = 0
        self._opened = 0
        self._opened_at = 0.0
        self._not_before = 0.0
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether calls other than probes are refused."""
        return self._opened > 0

    def allow(self) -> bool:
        """Whether the call may be made; while the breaker is open, one probe at a time after the open time."""
        if not self._opened:
            return True
        if self._clock() < self._not_before:
            return False
        self._wait()
        self._probing = True
        return True

    def succeeded(self) -> None:
        """The call was answered in time; after a probe the breaker closes."""
        if not self._opened:
            self._recent = self._recent << 1 & self._mask
        elif self._probing:
            self._close()

    def failed(self) -> None:
        """The call failed or was too slow."""
        if not self._opened:
            self._recent = (self._recent << 1 | 1) & self._mask
            if self._broken():
                self._open()
        elif self._probing:
            self._probing = False
            self._opened += 1
            self._wait()

    def _broken(self) -> bool:
        in_a_row = (1 << self._policy.consecutive) - 1
        return self._recent & in_a_row == in_a_row or self._recent.bit_count() >= self._policy.failures

    @property
    def _mask(self) -> int:
        # One bit per call, the newest lowest, 1 for a failure.
        return (1 << self._policy.window) - 1

    def _open(self) -> None:
        self._opened, self._opened_at = 1, self._clock()
        self._wait()
        CIRCUIT_OPEN.set(1)
        log.warning("the feature store fails, answering without it", failures=self._recent.bit_count())

    def _wait(self) -> None:
        """Refuse calls until the open time is over."""
        longest = self._policy.longest_open
        # The exponent is bounded so that an outage of days does not overflow.
        open_time = min(longest, self._policy.first_open * 2.0 ** min(self._opened - 1, 60))
        self._not_before = self._clock() + open_time * (1 - self._chance() / 2)

    def _close(self) -> None:
        log.info("the feature store answers again", seconds=round(self._clock() - self._opened_at, 3))
        self._opened, self._recent, self._probing = 0, 0, False
        CIRCUIT_OPEN.set(0)
