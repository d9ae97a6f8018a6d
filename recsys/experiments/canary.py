"""Judges a canary by its outcomes: advance, revert or wait. Pure functions, easy to simulate."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from recsys.experiments.rollout import UNITS, Outcome, Rollout, next_share
from recsys.experiments.sequential_test import MIN_USERS, Arm, Difference, difference

ALPHA = 0.05
"""The chance that a version as good as the live one is reverted, over all steps of one canary."""
MARGIN = 0.2
"""The part of the control's conversions that may still be in doubt when everybody gets the version."""

Counts = Mapping[Outcome, tuple[int, int]]
"""Per outcome the exposed users it was said of: (control, canary)."""


@dataclass(frozen=True, slots=True)
class Guardrail:
    """A rate that is compared: `worth` is a difference worth finding, `tolerated` one that is not worth reverting for.

    `fewer`: a lower rate is the harmful one.
    """

    outcome: Outcome
    worth: float
    tolerated: float = 0.0
    fewer: bool = False


GUARDRAILS = (
    Guardrail(Outcome.CONVERTED, 0.02, fewer=True),
    Guardrail(Outcome.FAILED, 0.01),
    Guardrail(Outcome.FALLBACK, 0.02, tolerated=0.01),
    Guardrail(Outcome.SLOW, 0.02, tolerated=0.01),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One guardrail as it stands: the rates of both, and an interval of their difference that holds at any time."""

    guardrail: Guardrail
    control: Arm
    canary: Arm
    difference: Difference

    @property
    def is_breached(self) -> bool:
        """Surely worse than tolerated."""
        tolerated = self.guardrail.tolerated
        return self.difference.high < -tolerated if self.guardrail.fewer else self.difference.low > tolerated


class Action(StrEnum):
    """Decision about a canary: leave it at its step, advance it, promote it, or revert to the live version."""

    WAIT = "wait"
    ADVANCE = "advance"
    PROMOTE = "promote"
    REVERT = "revert"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The action, the reason for it in words, and the findings that it rests on."""

    action: Action
    reason: str
    findings: tuple[Finding, ...]


def counts_of(outcomes: Mapping[Outcome, bytes], boundary: int) -> Counts:
    """Users on both sides of `boundary`, from bitmaps of units; only those who were exposed count."""
    exposed = _bits(outcomes.get(Outcome.EXPOSED, b""))
    counts = {}
    for outcome in Outcome:
        bits = _bits(outcomes.get(outcome, b"")) & exposed
        treated = int(np.count_nonzero(bits[:boundary]))
        counts[outcome] = (int(np.count_nonzero(bits)) - treated, treated)
    return counts


def judge(rollout: Rollout, seconds: float, counts: Counts) -> Verdict:
    """The verdict on a canary that has been at its step for `seconds`; it may be asked for any number of times.

    The error `ALPHA` is shared out evenly (Bonferroni) over guardrails and steps, each with an interval that is
    valid at all times.
    """
    compared = max(sum(step < 1.0 for step in rollout.steps), 1)
    alpha = ALPHA / (len(GUARDRAILS) * compared)
    findings = tuple(_finding(guardrail, counts, alpha) for guardrail in GUARDRAILS)
    breached = next((finding for finding in findings if finding.is_breached), None)
    if breached is not None:
        return Verdict(Action.REVERT, _breach(breached), findings)
    waits = _waits_for(rollout, seconds, findings)
    if waits:
        return Verdict(Action.WAIT, f"at {rollout.share:.0%}, waiting: {waits}", findings)
    share = next_share(rollout.share, rollout.steps)
    users = findings[0].canary.n
    if share < 1.0:
        said = f"no guardrail breached by {users:,} users at {rollout.share:.0%}"
        return Verdict(Action.ADVANCE, f"{said}, on to {share:.0%}", findings)
    return Verdict(Action.PROMOTE, f"canary passed: no guardrail breached by {users:,} users", findings)


def _bits(bitmap: bytes) -> NDArray[np.uint8]:
    """A 0 or 1 per unit, shape (UNITS,)."""
    return np.unpackbits(np.frombuffer(bitmap[: UNITS // 8].ljust(UNITS // 8, b"\0"), dtype=np.uint8))


def _finding(guardrail: Guardrail, counts: Counts, alpha: float) -> Finding:
    exposed = counts.get(Outcome.EXPOSED, (0, 0))
    marked = counts.get(guardrail.outcome, (0, 0))
    control, canary = (Arm.of_rate(n, successes) for n, successes in zip(exposed, marked, strict=True))
    return Finding(guardrail, control, canary, difference(control, canary, expected=guardrail.worth, alpha=alpha))


def _breach(finding: Finding) -> str:
    bounds = finding.difference
    return (
        f"{finding.guardrail.outcome.value}: {finding.canary.mean:.2%} of {finding.canary.n:,} users, "
        f"{finding.control.mean:.2%} of {finding.control.n:,} with the live version; the difference is between "
        f"{bounds.low:+.2%} and {bounds.high:+.2%}"
    )


def _waits_for(rollout: Rollout, seconds: float, findings: tuple[Finding, ...]) -> str:
    """Return the reason why the next step has to wait; empty when it may come."""
    if seconds < rollout.step_seconds:
        return f"the step takes {rollout.step_seconds / 3600:g} h, {seconds / 3600:.1f} h are over"
    exposed = findings[0]
    fewest = min(exposed.control.n, exposed.canary.n)
    if fewest < MIN_USERS:
        return f"{fewest} users so far on one side, {MIN_USERS} are needed on each"
    converted = next(finding for finding in findings if finding.guardrail.outcome is Outcome.CONVERTED)
    doubt = MARGIN * converted.control.mean
    is_last = next_share(rollout.share, rollout.steps) >= 1.0
    if is_last and doubt > 0.0 and not converted.difference.low > -doubt:
        low = converted.difference.low
        lower_bound = "not known yet" if math.isinf(low) else f"{low:+.2%} at worst"
        return f"conversions must be less than {doubt:.2%} below the live version's for all to get it, {lower_bound}"
    return ""
