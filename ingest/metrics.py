"""The consumers' metrics."""

from prometheus_client import Counter, Gauge, Histogram

from recsys.observability import unreadable

FRESHNESS_BUCKETS = (
    *(0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7),
    *(1, 1.5, 2, 3, 5, 7, 10, 30, 60, 300, 3600),
)
"""Fine from a millisecond to ten seconds, where the promises lie; above it only how bad it is."""
BATCH_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)

MESSAGES = Counter(
    "millirec_consumed_messages",
    "Messages done with: applied, repeated (done with before) or rejected",
    ["group", "outcome"],
)
BATCH_SECONDS = Histogram("millirec_batch_seconds", "Time to apply a batch", ["group"], buckets=BATCH_BUCKETS)
LAG = Gauge("millirec_consumer_lag", "Messages not committed yet", ["group", "partition"])
WATERMARK_AHEAD = Gauge(
    "millirec_watermark_ahead",
    "1 while the topic is behind what a group has done: its new messages are taken for repeats",
    ["group", "partition"],
)
FRESHNESS = Histogram(
    "millirec_freshness_seconds", "From an event's acknowledgement to its effect", ["group"], buckets=FRESHNESS_BUCKETS
)
DEAD_LETTERS = Counter("millirec_dead_letters", "Messages refused, by the field that was wrong", ["field"])
DEAD_LETTERS_WAITING = Gauge("millirec_dead_letters_waiting", "Dead letters neither replayed nor discarded")
MISKEYED = Counter(
    "millirec_miskeyed_messages", "Messages whose key is not their user or item: they stand in no order", ["group"]
)
UNREADABLE_RECORDS = unreadable.UNREADABLE_RECORDS
RETRIES = Counter("millirec_consumer_retries", "Waits for a system that was not available", ["group", "system"])
FOLD_IN_SECONDS = Histogram("millirec_fold_in_seconds", "Time to fold a batch into one version", buckets=BATCH_BUCKETS)
IN_SERVICE = Gauge("millirec_folding_version_info", "1 for a version that events are folded into", ["version"])
