"""Journey: what many look at is trending within seconds."""

import httpx

from tests.environment.deployment import Deployment
from tests.environment.waiting import wait_until_sync

SECONDS = 10.0


def post(deployment: Deployment, item: str, count: int, kind: str = "view") -> None:
    events = [
        {"event_id": f"{item}-{kind}-{n}", "user_id": f"v{n}", "item_id": item, "type": kind} for n in range(count)
    ]
    response = httpx.post(f"{deployment.url}/events", json={"events": events}, timeout=30.0)
    assert response.status_code == 202, response.text


def trending(deployment: Deployment, **params: str) -> list[str]:
    response = httpx.get(f"{deployment.url}/trending", params=params, timeout=10.0)
    assert response.status_code == 200, response.text
    return [one["item_id"] for one in response.json()["items"] if one["source"] == "trending"]


def test_what_many_look_at_trends_within_seconds(deployment: Deployment) -> None:
    deployment.environment["MILLIREC_SERVE__TRENDS_INTERVAL"] = "0.5"
    deployment.serve()
    deployment.start("features", "consume", "features")
    assert trending(deployment) == []
    post(deployment, "i1", 20)
    wait_until_sync(lambda: trending(deployment) == ["i1"], 60.0)
    post(deployment, "i21", 900, "impression")
    post(deployment, "i33", 200)
    wait_until_sync(lambda: trending(deployment) == ["i33", "i1"], SECONDS)
    assert trending(deployment, hours="1") == ["i33", "i1"]
    home = httpx.get(f"{deployment.url}/recommend", params={"user_id": "u0", "placement": "home"}, timeout=10.0).json()
    assert "i33" in {one["item_id"] for one in home["items"]}
