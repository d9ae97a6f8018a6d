"""The service's metrics. With several workers they meet in PROMETHEUS_MULTIPROC_DIR."""

import os

from prometheus_client import REGISTRY as PROCESS_REGISTRY
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from recsys.experiments.canary import Action
from recsys.experiments.rollout import Variant
from recsys.observability import unreadable
from recsys.observability.telemetry import LATENCY_BUCKETS
from recsys.recommender.query import FallbackLevel

REQUESTS = Counter("millirec_requests", "Requests answered", ["route", "method", "status"])
REQUEST_SECONDS = Histogram("millirec_request_seconds", "Time to answer", ["route"], buckets=LATENCY_BUCKETS)
IN_FLIGHT = Gauge("millirec_requests_in_flight", "Requests being answered now", multiprocess_mode="livesum")
RECOMMENDATIONS = Counter(
    "millirec_recommendations", "Recommendations by fallback level", ["fallback_level", "degraded"]
)
FALLBACK_LEVELS = {
    (fallback_level, degraded): RECOMMENDATIONS.labels(fallback_level.value, str(degraded).lower())
    for fallback_level in FallbackLevel
    for degraded in (False, True)
}
"""Looked up once: finding a child by its labels costs more than counting."""
SEARCH_SECONDS = Histogram("millirec_search_seconds", "Time in the recommender per query", buckets=LATENCY_BUCKETS)
FEATURE_READ_SECONDS = Histogram("millirec_feature_read_seconds", "Time reading features", buckets=LATENCY_BUCKETS)
FEATURE_READ_ERRORS = Counter(
    "millirec_feature_read_errors", "Feature reads that failed, or were not tried with the circuit open", ["reason"]
)
CIRCUIT_OPEN = Gauge(
    "millirec_circuit_open", "Processes that have stopped asking the feature store", multiprocess_mode="livesum"
)
CONNECTIONS = Gauge("millirec_connections", "Connections that are open", multiprocess_mode="livesum")
CONNECTIONS_ENDED = Counter("millirec_connections_ended", "Connections that the service ended, by cause", ["cause"])
REQUESTS_SHED = Counter("millirec_requests_shed", "Requests turned away at once because too many were being answered")
REFUSED = Counter(
    "millirec_requests_refused",
    "Requests refused for what their key, or without keys the browser, asks for",
    ["key", "reason"],
)
EVENTS = Counter("millirec_events", "Events received", ["outcome"])
SPOOLED = Counter("millirec_spooled", "Messages put on the spool because the topic did not take them")
SPOOL_REPLAYED = Counter("millirec_spool_replayed", "Messages of the spool that the topic acknowledged")
SPOOL_REFUSED = Counter("millirec_spool_refused", "Messages that the spool could not take either", ["reason"])
SPOOL_DAMAGED = Counter("millirec_spool_damaged", "Damaged messages and files of the spool, set aside as .corrupt")
SPOOL_MESSAGES = Gauge("millirec_spool_messages", "Messages on the spool", multiprocess_mode="livesum")
SPOOL_BYTES = Gauge("millirec_spool_bytes", "What they take on the disk", multiprocess_mode="livesum")
SPOOL_FREE = Gauge(
    "millirec_spool_free_bytes",
    "Room on the disk of the spool, if there is one",
    ["folder"],
    multiprocess_mode="livemin",
)
SPOOL_OLDEST = Gauge(
    "millirec_spool_oldest_seconds", "Age of the oldest message on the spool", multiprocess_mode="livemax"
)
SWAPS = Counter("millirec_index_swaps", "Index versions swapped in")
SWAP_SECONDS = Histogram(
    "millirec_index_load_seconds", "Time to load, verify and swap a version", buckets=(0.05, 0.1, 0.5, 1, 5, 20, 60)
)
LOAD_FAILURES = Counter("millirec_index_load_failures", "Versions refused or not loadable", ["reason"])
for reason in ("corrupt", "missing", "registry_unavailable", "placements_unavailable"):
    # There from the start: a counter that appears with its first failure has not increased.
    LOAD_FAILURES.labels(reason)
UNREADABLE_RECORDS = unreadable.UNREADABLE_RECORDS
WATCHER_FAILURES = Counter("millirec_watcher_failures", "Watchers that failed and were started again", ["watcher"])
INDEX_INFO = Gauge(
    "millirec_index_version_info", "1 for the version in service", ["version"], multiprocess_mode="mostrecent"
)
INDEX_FALLBACK = Gauge(
    "millirec_index_fallback",
    "Processes that cannot load the version their alias names and answer from an earlier one, or not at all",
    multiprocess_mode="livesum",
)
ROLLOUT_SHARE = Gauge(
    "millirec_rollout_share",
    "Share of the users of a canary, of the requests of a shadow; 0: none here",
    ["alias"],
    multiprocess_mode="mostrecent",
)
ROLLOUT_ANSWERED = Counter(
    "millirec_rollout_answers", "Answers on either side of a canary, by fallback level", ["variant", "fallback_level"]
)
ROLLOUT_ANSWERS = {
    (variant, fallback_level): ROLLOUT_ANSWERED.labels(variant.value, fallback_level.value)
    for variant in Variant
    for fallback_level in FallbackLevel
}
ROLLOUT_DIFFERENCE = Gauge(
    "millirec_rollout_difference",
    "Share of users whom an outcome befell, canary less control, and the bounds that hold at all times",
    ["outcome", "bound"],
    multiprocess_mode="mostrecent",
)
ROLLOUT_MOVES = Counter("millirec_rollout_moves", "What the guard of a canary did", ["action"])
for action in (Action.ADVANCE, Action.PROMOTE, Action.REVERT):
    ROLLOUT_MOVES.labels(action.value)
SHADOW_COMPARED = Counter("millirec_shadow_compared", "Answers compared with those of the shadow")
SHADOW_SKIPPED = Counter("millirec_shadow_skipped", "Requests drawn for the shadow that its budget had no room for")
SHADOW_FAILED = Counter("millirec_shadow_failed", "Requests that the shadow could not answer")
SHADOW_OVERLAP = Histogram(
    "millirec_shadow_overlap",
    "Share of the items in an answer that are in the shadow's too",
    buckets=[tenth / 10 for tenth in range(11)],
)
SHADOW_SECONDS = Histogram(
    "millirec_shadow_seconds", "Time in the recommender per query of the shadow", buckets=LATENCY_BUCKETS
)


def exposition() -> bytes:
    """The text format, over all workers when there are several."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(PROCESS_REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
