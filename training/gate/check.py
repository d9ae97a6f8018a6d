"""One check of the gate: the measured value, the limit, and the reason for a refusal."""

from collections.abc import Sequence
from dataclasses import dataclass

from training.evaluation.bootstrap import Interval


@dataclass(frozen=True, slots=True)
class Check:
    """`setting` names the limit (`gate.min_recall`). `interval` is set where users were resampled: 0 is the limit."""

    name: str
    setting: str
    measured: str
    limit: str
    passed: bool
    interval: Interval | None = None

    @property
    def reason(self) -> str:
        """Return a sentence with the measured value, the limit and its setting."""
        return f"{self.name} is {self.measured}, {self.limit} is asked ({self.setting})"


def reasons(checks: Sequence[Check]) -> list[str]:
    """Return every reason for a refusal; empty when all passed."""
    return [check.reason for check in checks if not check.passed]


def at_least(name: str, measured: float, limit: float, setting: str) -> Check:
    """Return a check that passes when `measured` is at least `limit`."""
    return Check(name, f"gate.{setting}", f"{measured:.4f}", f"at least {limit:g}", measured >= limit)


def at_most(name: str, measured: float, limit: float, setting: str) -> Check:
    """Return a check that passes when `measured` is at most `limit`."""
    return Check(name, f"gate.{setting}", f"{measured:.4f}", f"at most {limit:g}", measured <= limit)
