"""One check of the gate: what was measured, what was asked, and in words why it was not enough."""

from collections.abc import Sequence
from dataclasses import dataclass

from training.gate.bootstrap import Interval


@dataclass(frozen=True, slots=True)
class Check:
    """`setting` names the limit (`gate.min_recall`). `interval` holds where users were drawn anew: 0 is the limit."""

    name: str
    setting: str
    measured: str
    limit: str
    passed: bool
    interval: Interval | None = None

    @property
    def reason(self) -> str:
        return f"{self.name} is {self.measured}, {self.limit} is asked ({self.setting})"


def reasons(checks: Sequence[Check]) -> list[str]:
    """Every reason for a refusal; empty when all passed."""
    return [check.reason for check in checks if not check.passed]


def at_least(name: str, measured: float, limit: float, setting: str) -> Check:
    return Check(name, f"gate.{setting}", f"{measured:.4f}", f"at least {limit:g}", measured >= limit)


def at_most(name: str, measured: float, limit: float, setting: str) -> Check:
    return Check(name, f"gate.{setting}", f"{measured:.4f}", f"at most {limit:g}", measured <= limit)
