"""Journey: what many look at is trending within seconds."""

from pathlib import Path

import httpx

from app.live_index import LiveIndex, LoadedVersion
from app.trend_watcher import LiveTrends, TrendWatcher
from recsys.feature_store import open_feature_store
from recsys.recommender import Catalogue, Index
from recsys.settings import StoreSettings
from tests.deployment import Deployment
from tests.waiting import WaitUntil

SECONDS = 10.0


def post_views(deployment: Deployment, item: str, count: int) -> None:
    events = [{"event_id": f"{item}-{n}", "user_id": f"v{n}", "item_id": item, "type": "view"} for n in range(count)]
    response = httpx.post(f"{deployment.url}/events", json={"events": events}, timeout=30.0)
    assert response.status_code == 202, response.text


async def test_what_many_look_at_trends_within_seconds(
    deployment: Deployment, store_settings: StoreSettings, tmp_path: Path, wait_until: WaitUntil
) -> None:
    deployment.serve()
    deployment.start("features", "consume", "features")
    post_views(deployment, "i1", 10)
    store, live_index, live_trends = open_feature_store(store_settings), LiveIndex(), LiveTrends()
    index = Index.open(deployment.registry.fetch("first", tmp_path / "mine"), deployment.registry.manifest("first"))
    live_index.swap(LoadedVersion(index, Catalogue.of(index)))
    watcher = TrendWatcher(live_trends, live_index, store, 5.0)

    async def first_is(item: str) -> bool:
        await watcher.look()
        return index.item_id.ids(live_trends.current.ranked(Catalogue.of(index), 24).rows)[:1] == [item]

    await wait_until(lambda: first_is("i1"), 60.0)
    post_views(deployment, "i33", 200)
    await wait_until(lambda: first_is("i33"), SECONDS)
    await store.aclose()
