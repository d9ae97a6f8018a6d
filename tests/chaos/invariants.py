"""Invariants of a quiet deployment, as pure comparisons: nothing here asks a store or a clock."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from recsys.messages.interaction import DEFAULT_TYPE_WEIGHTS, IMPRESSION, OTHER_TYPE_WEIGHT, Interaction, epoch_ms
from recsys.recommender.trends import TREND_UNITS, hour_of
from recsys.users import PositionedMessage, UserFeatures, apply

Trends = Mapping[int, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Ledger:
    """The producers' knowledge: events acknowledged, and those sent without an answer."""

    acknowledged: frozenset[str]
    doubtful: frozenset[str]


@dataclass(frozen=True, slots=True)
class Verdict:
    """On the log: acknowledged and not there; there more than once; there and never sent."""

    lost: list[str]
    duplicated: list[str]
    invented: list[str]


def judged(ledger: Ledger, event_ids: Sequence[str]) -> Verdict:
    logged = Counter(event_ids)
    return Verdict(
        sorted(ledger.acknowledged - logged.keys()),
        sorted(event for event, times in logged.items() if times > 1),
        sorted(logged.keys() - ledger.acknowledged - ledger.doubtful),
    )


def written_twice(rows: Sequence[PositionedMessage]) -> list[tuple[str, int]]:
    """Places of the topic that stand in the log more than once."""
    places = Counter((row.partition, row.offset) for row in rows)
    return sorted(place for place, times in places.items() if times > 1)


def folded(rows: Sequence[PositionedMessage], length: int) -> dict[str, UserFeatures]:
    """Every user's record: the reducer over the log, in topic order."""
    by_user: defaultdict[str, list[PositionedMessage]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row.partition, row.offset)):
        by_user[row.message.user_id].append(row)
    return {user_id: apply(UserFeatures(user_id), records, length) for user_id, records in by_user.items()}


def differing(expected: Mapping[str, UserFeatures], stored: Sequence[UserFeatures]) -> list[str]:
    """Users who are remembered otherwise than `expected`, and in what; embeddings and revisions are no part of it."""
    names = ("history", "impressions", "offsets", "identity_changes", "dedup_window")
    wrong = []
    for one in stored:
        wanted = expected[one.user_id]
        unlike = [name for name in names if getattr(one, name) != getattr(wanted, name)]
        if unlike:
            wrong.append(f"{one.user_id}: {', '.join(unlike)}")
    return wrong


def trending(rows: Sequence[PositionedMessage]) -> dict[int, dict[str, int]]:
    """Weights by hour and item, each event once."""
    events = {row.message.event_id: row.message for row in rows if isinstance(row.message, Interaction)}
    hours: defaultdict[int, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    for event in events.values():
        if event.type != IMPRESSION:
            weight = DEFAULT_TYPE_WEIGHTS.get(event.type, OTHER_TYPE_WEIGHT)
            hours[hour_of(epoch_ms(event.occurred_at))][event.item_id] += round(weight * TREND_UNITS)
    return {hour: dict(weights) for hour, weights in hours.items()}


def keys_amiss(lives: Mapping[str, int], prefix: str, topic: str, users: Collection[str]) -> list[str]:
    """Keys that nobody owns, and keys that live for ever, with no consumer running. `lives` are their TTLs in ms."""
    owned = re.compile(
        rf"{re.escape(prefix)}(items:changed|heartbeats|trends|trend:{re.escape(topic)}-\d+:\d+|{re.escape(topic)}(\.dead-letters)?:\d+)"
    )
    known = {f"{prefix}user:{user}" for user in users}
    return sorted(
        [f"{key}: nobody's" for key in lives if key not in known and not owned.fullmatch(key)]
        + [f"{key}: for ever" for key, life in lives.items() if life < 0]
    )
