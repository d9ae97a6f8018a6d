"""Journeys (a) and (b): who gets what, and how an event changes it, seen from outside."""

from typing import Any

import httpx

from tests.environment.deployment import Deployment
from tests.environment.waiting import wait_until_sync


def post(deployment: Deployment, *events: dict[str, Any]) -> None:
    response = httpx.post(f"{deployment.url}/events", json={"events": events}, timeout=30.0)
    assert response.status_code == 202, response.text
    assert response.json()["accepted"] == len(events)


def purchase(user: str, item: str, event: str) -> dict[str, Any]:
    return {"event_id": event, "user_id": user, "item_id": item, "type": "purchase"}


def test_known_unknown_and_session_users_are_answered(deployment: Deployment) -> None:
    deployment.serve()
    assert deployment.recommend("u0")["fallback_level"] == "snapshot"
    assert deployment.recommend("nobody")["fallback_level"] == "popular"
    session = httpx.get(f"{deployment.url}/recommend", params={"session_items": "i1"}).json()
    assert session["fallback_level"] == "session"
    assert all(len(body["items"]) == 10 for body in (deployment.recommend("u0"), deployment.recommend("x"), session))


def test_a_posted_event_changes_the_next_answer(any_topic: Deployment) -> None:
    any_topic.serve()
    any_topic.start("consumers", "consume")
    assert any_topic.recommend("newcomer")["fallback_level"] == "popular"
    post(any_topic, purchase("newcomer", "i1", "e1"), purchase("newcomer", "i3", "e2"))
    wait_until_sync(lambda: any_topic.recommend("newcomer")["fallback_level"] == "embedding", 60.0)
    wait_until_sync(lambda: len(interactions(any_topic, "newcomer")) == 2, 10.0)
    shown = [one["item_id"] for one in any_topic.recommend("newcomer")["items"]]
    assert all(int(item[1:]) % 2 == 1 for item in shown), "the newcomer bought from the garden"
    new = httpx.get(f"{any_topic.url}/recommend", params={"user_id": "newcomer", "placement": "discover"}).json()
    assert not {"i1", "i3"} & {one["item_id"] for one in new["items"]}

    post(any_topic, purchase("newcomer", "i1", "e1"))
    post(any_topic, purchase("newcomer", "i5", "e3"))
    wait_until_sync(lambda: len(interactions(any_topic, "newcomer")) == 3, 30.0)


def interactions(deployment: Deployment, user: str) -> list[dict[str, Any]]:
    body = httpx.get(f"{deployment.url}/users/{user}").json()
    found: list[dict[str, Any]] = body["interactions"]
    return found


def test_what_a_visitor_clicked_is_the_customers_after_the_login(any_topic: Deployment) -> None:
    any_topic.serve()
    any_topic.start("consumers", "consume")
    post(any_topic, purchase("anonymous", "i1", "e1"), purchase("anonymous", "i3", "e2"))
    wait_until_sync(lambda: any_topic.recommend("anonymous")["fallback_level"] == "embedding", 60.0)
    merged = httpx.post(f"{any_topic.url}/users/customer/merge", json={"from": "anonymous"}, timeout=30.0)
    assert merged.status_code == 202, merged.text
    wait_until_sync(lambda: any_topic.recommend("customer")["fallback_level"] == "embedding", 30.0)
    assert {one["item_id"] for one in interactions(any_topic, "customer")} == {"i1", "i3"}
    wait_until_sync(lambda: any_topic.recommend("anonymous")["fallback_level"] == "popular", 30.0)
    assert interactions(any_topic, "anonymous") == []


def test_an_erased_user_is_a_stranger_again(deployment: Deployment) -> None:
    deployment.serve()
    deployment.start("features", "consume", "features")
    post(deployment, purchase("u0", "i1", "e1"))
    wait_until_sync(lambda: deployment.recommend("u0")["fallback_level"] == "embedding", 60.0)
    assert httpx.delete(f"{deployment.url}/users/u0").status_code == 202
    wait_until_sync(lambda: deployment.recommend("u0")["fallback_level"] == "popular", 30.0)
    assert interactions(deployment, "u0") == []
