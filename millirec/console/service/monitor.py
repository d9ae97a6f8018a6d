"""The monitor: reads the metrics of service and consumers, and keeps the last minutes for every page."""

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic, time

import httpx
import structlog

from millirec.console.service.client import Reachability
from millirec.console.service.exposition import (
    Labels,
    Quantiles,
    Series,
    by_label,
    increase,
    quantiles,
    read,
    together,
    total,
)
from recsys.observability.text import masked
from recsys.recommender.query import FallbackLevel

log = structlog.get_logger()
MAX_SAMPLES = 300
"""Samples: ten minutes at one in two seconds."""
SHORT, LONG = 5, 30
"""Looks back over which traffic, and the much rarer freshness, are taken."""
WATCHED = 30.0
"""Seconds for which a page counts as open after it was drawn."""
MAX_TEXT = 4_000_000
"""Bytes of one exposition."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading. Rates are per second, durations in seconds; None where nothing happened or nothing is known."""

    at: float
    recommended: float = 0.0
    events: float = 0.0
    others: float = 0.0
    failed: float = 0.0
    shed: float = 0.0
    latency: Quantiles | None = None
    freshness: Quantiles | None = None
    fallback_levels: Mapping[str, float] = field(default_factory=dict)
    degraded: float = 0.0
    lag: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, float] = field(default_factory=dict)
    spooled: float = 0.0
    circuit_open: float = 0.0
    dead_letters: float | None = None
    silent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Look:
    at: float
    texts: Mapping[str, Series]


class Monitor:
    """Runs as one task per console; pages read `samples`, newest last."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        reachability: Reachability,
        urls: tuple[str, ...],
        interval: float,
    ) -> None:
        self._http = http
        self._reachability = reachability
        self._urls = urls or ("/metrics",)
        self._interval = interval
        self._looks: deque[_Look] = deque(maxlen=LONG + 1)
        self._watched_at = 0.0
        self.samples: deque[Sample] = deque(maxlen=MAX_SAMPLES)

    def note_viewer(self) -> None:
        """Record that a page is open: without any, metrics are read five times less often."""
        self._watched_at = monotonic()

    @property
    def has_consumers(self) -> bool:
        """Whether any of the last samples has metrics of a consumer."""
        return any(sample.lag or sample.dead_letters is not None for sample in list(self.samples)[-3:])

    async def run(self) -> None:
        """Read the metrics until cancelled; a reading that fails is logged, and the next one comes on time."""
        while True:
            began = monotonic()
            try:
                await self.look()
            except Exception:  # the monitor must outlive a text that nobody foresaw
                log.exception("a look at the metrics failed")
            pause = self._interval if monotonic() - self._watched_at < WATCHED else 5 * self._interval
            await asyncio.sleep(max(0.1, pause - (monotonic() - began)))

    async def look(self) -> None:
        """Read all metrics once."""
        _, *answers = await asyncio.gather(self._ask_service(), *(self._fetch(url) for url in self._urls))
        texts = {url: answer for url, answer in zip(self._urls, answers, strict=True) if answer is not None}
        self._looks.append(_Look(monotonic(), texts))
        silent = tuple(masked(url) for url in self._urls if url not in texts)
        self.samples.append(_sample(list(self._looks), silent))

    async def _ask_service(self) -> None:
        try:
            await self._http.get("/health/live")
        except httpx.HTTPError as error:
            slow = isinstance(error, httpx.TimeoutException)
            self._reachability.note_failure("it took too long to answer" if slow else "no connection")
        else:
            self._reachability.note_answer()

    async def _fetch(self, url: str) -> Series | None:
        try:
            response = await self._http.get(url)
            if not response.is_success or len(response.content) > MAX_TEXT:
                return None
            return await asyncio.to_thread(read, response.text)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError):
            return None


def _sample(looks: list[_Look], silent: tuple[str, ...]) -> Sample:
    newest = looks[-1]
    current = together(newest.texts.values())
    counted, seconds = _since(looks[-1 - SHORT :] if len(looks) > SHORT else looks)
    counted_long, _ = _since(looks)
    routes = by_label(counted, "millirec_requests_total", "route")
    recommended = sum(count for route, count in routes.items() if _recommends(route))
    answers = by_label(counted, "millirec_recommendations_total", "fallback_level")
    answered = sum(answers.values())
    degraded = total(counted, "millirec_recommendations_total", lambda labels: labels.get("degraded") == "true")
    events = routes.get("/events", 0.0)
    waiting = [value for (name, _), value in current.items() if name == "millirec_dead_letters_waiting"]
    return Sample(
        at=time(),
        recommended=recommended / seconds,
        events=events / seconds,
        others=(sum(routes.values()) - recommended - events) / seconds,
        failed=total(counted, "millirec_requests_total", _failed) / seconds,
        shed=total(counted, "millirec_requests_shed_total") / seconds,
        latency=quantiles(counted, "millirec_request_seconds", lambda labels: labels.get("route") == "/recommend"),
        freshness=quantiles(
            counted_long, "millirec_freshness_seconds", lambda labels: labels.get("group") == "features"
        ),
        fallback_levels={
            fallback_level: answers.get(fallback_level, 0.0) / answered for fallback_level in FallbackLevel
        }
        if answered
        else {},
        degraded=degraded / answered if answered else 0.0,
        lag=by_label(current, "millirec_consumer_lag", "group"),
        versions={name: n for name, n in by_label(current, "millirec_index_version_info", "version").items() if n > 0},
        spooled=total(current, "millirec_spool_messages"),
        circuit_open=total(current, "millirec_circuit_open"),
        dead_letters=max(waiting) if waiting else None,
        silent=silent,
    )


def _since(looks: list[_Look]) -> tuple[Series, float]:
    """Return what each source counted between its first and its last reading, and the seconds of all."""
    newest = looks[-1]
    parts = []
    for url, text in newest.texts.items():
        first = next((look.texts[url] for look in looks[:-1] if url in look.texts), None)
        if first is not None:
            parts.append(increase(text, first))
    return together(parts), max(newest.at - looks[0].at, 0.001)


def _recommends(route: str) -> bool:
    return route in {"/recommend", "/recommend/batch", "/items/{item_id}/similar"}


def _failed(labels: Labels) -> bool:
    """Whether a request failed. 503 is not a failure: it was turned away, or there is no version to answer from."""
    status = labels.get("status", "")
    return status.startswith("5") and status != "503" and _recommends(labels.get("route", ""))
