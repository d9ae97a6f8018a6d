"""Stored records that cannot be read: each is counted by kind, and told in one log line per kind and minute."""

from collections import Counter as Counts

import structlog
from prometheus_client import Counter

from recsys.observability.throttle import log_throttled

log = structlog.get_logger()

UNREADABLE_RECORDS = Counter("millirec_unreadable_records", "Stored records that could not be read, by kind", ["kind"])
CATALOGUE_ENTRY = "catalogue entry"
USER_RECORD = "user record"
LOGGED_ITEM = "item update of the log"
VERSION_ITEM = "item of a version"
REGISTRY_ENTRY = "registry entry"
COUNTERS = "counter of a rollout"
FEED = "feed of item changes"
TRENDS = "trend counts"
HEARTBEATS = "heartbeats"
KINDS = (CATALOGUE_ENTRY, USER_RECORD, LOGGED_ITEM, VERSION_ITEM, REGISTRY_ENTRY, COUNTERS, FEED, TRENDS, HEARTBEATS)
for kind in KINDS:
    # From the start: a counter that appears with its first count has not increased.
    UNREADABLE_RECORDS.labels(kind)


_met: Counts[str] = Counts()


def unreadable_met() -> int:
    """How often this process has met one so far."""
    return _met.total()


def note_unreadable(kind: str, name: str, error: object) -> None:
    """`name` is the record's id or path; `kind` one of `KINDS`."""
    UNREADABLE_RECORDS.labels(kind).inc()
    _met[kind] += 1
    log_throttled(
        log, "error", "stored record cannot be read", cause=kind, kind=kind, name=name, error=str(error)[:500]
    )
