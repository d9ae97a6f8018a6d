"""A canary from the outside: users click on what they get or do not, and the service takes the bad version back."""

from typing import Any

import httpx

from recsys.models.alias_move import CANARY
from tests.environment.deployment import Deployment
from tests.environment.waiting import wait_until_sync
from tests.journeys.test_events_change_answers import post

SHOPPERS = 300


def answers(deployment: Deployment) -> dict[str, dict[str, Any]]:
    with httpx.Client(base_url=deployment.url, timeout=30.0) as client:
        users = [f"shopper-{n}" for n in range(SHOPPERS)]
        return {user: client.get("/recommend", params={"user_id": user}).raise_for_status().json() for user in users}


def click(user: str, answer: dict[str, Any]) -> dict[str, Any]:
    return {
        "event_id": f"click-{user}",
        "user_id": user,
        "item_id": answer["items"][0]["item_id"],
        "type": "click",
        "recommendation_id": answer["recommendation_id"],
    }


def test_a_version_whose_answers_nobody_clicks_is_taken_back(deployment: Deployment) -> None:
    deployment.environment["MILLIREC_SERVE__POLL_INTERVAL"] = "0.2"
    deployment.serve("--workers", "2")
    deployment.start("features", "consume", "features")
    said = deployment.run("canary", "start", "second", "--reason", "journey", "--steps", "0.5,1", "--step-hours", "1")
    assert "50 %" in said
    wait_until_sync(lambda: deployment.recommend("shopper-0").get("variant"), 30.0)
    # Both workers have it by the time that everybody is on a side.
    wait_until_sync(lambda: all("variant" in one for one in answers(deployment).values()), 30.0)
    given = answers(deployment)
    sides = {side: {user for user, one in given.items() if one["variant"] == side} for side in ("canary", "control")}
    assert min(map(len, sides.values())) > 100
    assert {given[user]["index_version"] for user in sides["canary"]} == {"second"}
    assert {given[user]["index_version"] for user in sides["control"]} == {"first"}
    post(deployment, *(click(user, given[user]) for user in sides["control"]))
    wait_until_sync(lambda: deployment.registry.alias(CANARY) is None, 60.0)
    end = deployment.registry.history(CANARY)[-1]
    assert (end.actor, end.cleared) == ("canary guard", True)
    assert end.reason.startswith("converted: 0.00% of ")
    wait_until_sync(lambda: {one["index_version"] for one in answers(deployment).values()} == {"first"}, 30.0)
