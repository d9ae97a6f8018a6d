"""The gate's checks of a version: floors, the live version, every segment, what lists show, the artefact, the data."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from training.evaluation.bootstrap import Interval, Values, mean_interval
from training.evaluation.evaluate import HEADLINE_K, Evaluation
from training.monitoring.data_shift import DataShift
from training.settings import Bound, GateSettings

RECALL = f"recall@{HEADLINE_K}"
COVERAGE = f"coverage@{HEADLINE_K}"
POPULARITY_LIFT = f"popularity_lift@{HEADLINE_K}"
TOLERANCE = 1e-9
"""Allows for rounding: means of equal numbers differ in the last digit."""


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


@dataclass(frozen=True, slots=True)
class Artefact:
    """`recall` of the search index against exact search; `live_megabytes` is `None` without a live version."""

    recall: float
    megabytes: float
    live_megabytes: float | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything the gate judges by.

    `live` is the live version on the same users, where it has not seen the answers. Where it has, `leads` are how many
    times popularity's recall it reached on days that were held out from it, by segment and `""` for all users: weeks
    differ in how predictable they are, and that moves popularity too.
    """

    candidate: Evaluation
    popularity: Evaluation
    live: Evaluation | None = None
    leads: Mapping[str, float] = field(default_factory=dict)
    artefact: Artefact | None = None
    shift: DataShift | None = None


def judge(gate: GateSettings, evidence: Evidence) -> list[Check]:
    """Return every check that the evidence allows, passed or not."""
    return [*_quality(gate, evidence), *_artefact(gate, evidence.artefact), *_data(gate, evidence.shift)]


def _quality(gate: GateSettings, evidence: Evidence) -> Iterator[Check]:
    candidate, popular = evidence.candidate, evidence.popularity
    users = len(candidate.recall)
    enough = users >= gate.min_users
    yield Check("held-out users with a past", "gate.min_users", f"{users}", f"at least {gate.min_users}", enough)
    if not enough:
        return
    recall = candidate.metrics[RECALL]
    yield at_least(RECALL, recall, gate.min_recall, "min_recall")
    threshold = gate.min_ratio_to_popularity * popular.metrics[RECALL]
    limit = f"{gate.min_ratio_to_popularity:g} times the {popular.metrics[RECALL]:.4f} of popular items"
    yield Check(RECALL, "gate.min_ratio_to_popularity", f"{recall:.4f}", limit, recall >= threshold)
    yield at_least(COVERAGE, candidate.metrics[COVERAGE], gate.min_coverage, "min_coverage")
    yield at_most(POPULARITY_LIFT, candidate.metrics[POPULARITY_LIFT], gate.max_popularity_lift, "max_popularity_lift")
    yield from _relative(gate, evidence)


def _relative(gate: GateSettings, evidence: Evidence) -> Iterator[Check]:
    candidate, popular, live = evidence.candidate, evidence.popularity, evidence.live
    if live is not None:
        yield _retention_check(gate, "", candidate.recall, live.recall, "live version", "max_drop_to_live")
        for name, values in candidate.segments.items():
            yield from _segment(gate, name, values, live.segments[name], "live version", "max_segment_drop")
        yield at_least(
            f"{COVERAGE} over that of the live version",
            candidate.metrics[COVERAGE] / max(live.metrics[COVERAGE], TOLERANCE),
            1.0 - gate.max_coverage_drop,
            "max_coverage_drop",
        )
    elif "" in evidence.leads:
        for name, lead in evidence.leads.items():
            was = f"{lead:.2f} times popular items, as live when trained"
            if not name:
                yield _retention_check(gate, "", candidate.recall, lead * popular.recall, was, "max_lead_lost")
            elif name in candidate.segments:
                values, yardstick = candidate.segments[name], lead * popular.segments[name]
                yield from _segment(gate, name, values, yardstick, was, "max_segment_lead_lost")


def _segment(
    gate: GateSettings, name: str, values: Values, yardstick: Values, of: str, setting: str
) -> Iterator[Check]:
    mask = ~np.isnan(values) & ~np.isnan(yardstick)
    if mask.sum() >= gate.min_segment_users:
        yield _retention_check(gate, name, values[mask], yardstick[mask], of, setting, Bound.UPPER)


def _retention_check(
    gate: GateSettings,
    segment: str,
    values: Values,
    yardstick: Values,
    of: str,
    setting: str,
    decides: Bound | None = None,
) -> Check:
    """Return a check that enough of the yardstick's recall is retained; both are (users,), user by user.

    For all users `gate.decides` says which bound of the interval must reach the limit. For a segment it is always the
    upper one, which refuses only significant losses: segments are small and there are several.
    """
    decides = decides or gate.decides
    share = 1.0 - getattr(gate, setting)
    interval = mean_interval(
        values - share * yardstick, confidence=gate.confidence, samples=gate.bootstrap_samples, seed=gate.seed
    )
    bound = interval.low if decides is Bound.LOWER else interval.high
    name = f"{RECALL} of {segment}" if segment else RECALL
    limit = (
        f"{share:.0%} of the {yardstick.mean():.4f} ({of}), by the {decides.value} bound of "
        f"{interval.low:+.4f} to {interval.high:+.4f} over {interval.users} users"
    )
    return Check(name, f"gate.{setting}", f"{values.mean():.4f}", limit, bound >= -TOLERANCE, interval)


def _artefact(gate: GateSettings, artefact: Artefact | None) -> Iterator[Check]:
    if artefact is None:
        return
    yield at_least("recall of the search index", artefact.recall, gate.min_index_recall, "min_index_recall")
    yield at_most("size in MB", artefact.megabytes, gate.max_megabytes, "max_megabytes")
    if artefact.live_megabytes:
        ratio = artefact.megabytes / artefact.live_megabytes
        yield at_most("size over that of the live version", ratio, gate.max_growth, "max_growth")


def _data(gate: GateSettings, shift: DataShift | None) -> Iterator[Check]:
    if shift is None:
        return
    if shift.volume is not None:
        yield at_least(
            "interactions over those of the last snapshot", shift.volume, 1.0 - gate.max_shrink, "max_shrink"
        )
    if shift.new_events >= gate.min_new_events:
        yield at_most("share of new events on unknown items", shift.unknown, gate.max_unknown, "max_unknown")
        yield at_most("shift of types", shift.types, gate.max_type_shift, "max_type_shift")
        yield at_most("shift of items", shift.items, gate.max_item_shift, "max_item_shift")
