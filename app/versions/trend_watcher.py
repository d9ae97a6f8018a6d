"""TrendWatcher: brings the counts of events to the trending list within seconds."""

import asyncio
from collections.abc import Mapping
from time import monotonic, time

import structlog

from app.versions.live_index import LiveIndex
from recsys.catalogue.catalogue import Catalogue
from recsys.errors import StoreUnavailable
from recsys.observability.throttle import log_throttled
from recsys.recommender.trends import TREND_HOURS, Trends, hour_of
from recsys.stores.trends import TrendStore

log = structlog.get_logger()

ALL_HOURS_EVERY = 3600.0
"""Seconds between readings of every hour: late events may change any of them."""


class LiveTrends:
    """The current trends; only the event loop changes them, as in `LiveIndex`."""

    def __init__(self) -> None:
        self.current = Trends()


class TrendWatcher:
    """Keeps the trends up to date; while the store cannot be read, the last ones stay."""

    def __init__(self, live_trends: LiveTrends, live_index: LiveIndex, store: TrendStore, interval: float) -> None:
        self._live_trends = live_trends
        self._live_index = live_index
        self._store = store
        self._interval = interval
        self._all_due = 0.0
        self._newest: Mapping[int, Mapping[str, int]] = {}

    async def run(self) -> None:
        """Follow the counts until cancelled."""
        while True:
            try:
                await self.look()
            except StoreUnavailable as error:
                log_throttled(log, "warning", "trends cannot be read, keeping those known", error=str(error))
            await asyncio.sleep(self._interval)

    async def look(self) -> None:
        """Read the hours that still change, all of them now and then. Raises `StoreUnavailable`."""
        hour, previous = hour_of(1000 * time()), self._live_trends.current
        # An event may be a little ahead of the clock, and then in the hour to come.
        newest = range(hour - 1, hour + 2)
        every = monotonic() >= self._all_due
        counts = await self._store.read(range(hour - TREND_HOURS + 1, hour + 2) if every else newest)
        newest_counts = {key: counts[key] for key in newest}
        if not every and hour == previous.hour and newest_counts == self._newest:
            return
        catalogues = [loaded.catalogue for loaded in self._live_index.in_memory()]
        base = Trends() if every else previous
        self._live_trends.current = await asyncio.to_thread(_ready, base, previous, hour, counts, catalogues)
        self._newest = newest_counts
        if every:
            self._all_due = monotonic() + ALL_HOURS_EVERY


def _ready(
    base: Trends, previous: Trends, hour: int, counts: Mapping[int, Mapping[str, int]], catalogues: list[Catalogue]
) -> Trends:
    trends = base.updated(hour, counts)
    for catalogue in catalogues:
        trends.warm(catalogue, previous)
    return trends
