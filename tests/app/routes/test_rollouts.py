"""Canary, shadow and versions of single placements: who is answered by what, and how each of them ends."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from app.settings import AppSettings
from recsys.experiments.rollout import Outcome, Rollout
from recsys.models.alias_move import CANARY, LIVE
from recsys.stores.model_registry import ModelRegistry
from recsys.stores.model_registry.aliases import promote
from recsys.stores.online import Stores, open_stores
from tests.environment.waiting import WaitUntil

USERS = [f"shopper-{n}" for n in range(400)]
CANARY_BODY = {"version": "second", "reason": "passed the gate", "steps": [0.5, 1.0], "step_hours": 1}


@pytest.fixture
async def stores(settings: AppSettings) -> AsyncIterator[Stores]:
    opened = open_stores(settings.store)
    yield opened
    await opened.aclose()


async def recommended(client: httpx.AsyncClient, user_id: str | None, **asked: str) -> dict[str, Any]:
    params: dict[str, str | int] = {"k": 5, **({} if user_id is None else {"user_id": user_id}), **asked}
    response = await client.get("/recommend", params=params)
    assert response.status_code == 200
    body: dict[str, Any] = response.json()
    return body


async def start_canary(client: httpx.AsyncClient, wait_until: WaitUntil, **changed: object) -> None:
    response = await client.post("/rollouts/canary", json={**CANARY_BODY, **changed})
    assert response.status_code == 200, response.text

    async def running() -> bool:
        return "variant" in await recommended(client, "anybody")

    await wait_until(running)


async def exposed(client: httpx.AsyncClient) -> dict[str, set[str]]:
    """Everybody gets an answer; who stands on which side."""
    sides: dict[str, set[str]] = {"canary": set(), "control": set()}
    for user in USERS:
        sides[(await recommended(client, user))["variant"]].add(user)
    return sides


async def convert(stores: Stores, registry: ModelRegistry, users: set[str]) -> None:
    rollout = rollout_of(registry)
    await stores.outcomes.record(rollout.experiment, {Outcome.CONVERTED: {rollout.unit(user) for user in users}})


def rollout_of(registry: ModelRegistry) -> Rollout:
    move = registry.alias(CANARY)
    assert move is not None
    assert move.rollout is not None
    return move.rollout


async def test_each_user_stays_on_one_side_of_a_canary_and_the_answer_says_which(
    client: httpx.AsyncClient, wait_until: WaitUntil
) -> None:
    assert "variant" not in await recommended(client, "u2")
    await start_canary(client, wait_until)
    answers = [(await recommended(client, user), await recommended(client, user)) for user in USERS[:60]]
    sides = [(one["variant"], one["index_version"]) for one, _ in answers]
    assert set(sides) == {("canary", "second"), ("control", "first")}
    assert [(again["variant"], again["index_version"]) for _, again in answers] == sides
    explained = [await recommended(client, user, explain="true") for user in USERS[:10]]
    assert [(one["variant"], one["index_version"]) for one in explained] == sides[:10]
    nobody = await recommended(client, None)
    assert (nobody.get("variant"), nobody["index_version"]) == (None, "first")
    batch = (await client.post("/recommend/batch", json={"users": USERS[:5]})).json()
    assert batch["index_version"] == "first", "one version answers a whole batch"


async def test_a_canary_that_is_stopped_answers_nobody_any_more(
    client: httpx.AsyncClient, wait_until: WaitUntil
) -> None:
    await start_canary(client, wait_until)
    stopped = await client.post("/rollouts/canary/stop", json={"reason": "enough seen"})
    assert stopped.status_code == 200

    async def over() -> bool:
        return not any(["variant" in await recommended(client, user) for user in USERS[:10]])

    await wait_until(over)
    assert (await client.get("/rollouts")).json() == {"canary": None, "shadow": None}


async def test_a_canary_that_costs_conversions_is_taken_back_with_the_reason_on_record(
    client: httpx.AsyncClient, stores: Stores, registry: ModelRegistry, wait_until: WaitUntil
) -> None:
    await start_canary(client, wait_until)
    sides = await exposed(client)
    await convert(stores, registry, sides["control"])
    await wait_until(lambda: registry.alias(CANARY) is None)
    end = registry.history(CANARY)[-1]
    assert end.actor == "canary guard"
    assert end.reason.startswith("converted: 0.00% of ")
    live = registry.alias(LIVE)
    assert live is not None
    assert live.version == "first"

    async def over() -> bool:
        version: str = (await recommended(client, min(sides["canary"])))["index_version"]
        return version == "first"

    await wait_until(over)


async def test_a_canary_as_good_as_the_live_version_becomes_it(
    client: httpx.AsyncClient, registry: ModelRegistry, wait_until: WaitUntil
) -> None:
    await start_canary(client, wait_until, step_hours=0)
    for user in USERS:
        await recommended(client, user)
    await wait_until(lambda: registry.alias(CANARY) is None)
    live = registry.alias(LIVE)
    assert live is not None
    assert live.version == "second"
    assert live.reason.startswith("canary passed")


async def test_a_canary_tells_how_it_stands_and_goes_on_when_told_to(
    client: httpx.AsyncClient, stores: Stores, registry: ModelRegistry, wait_until: WaitUntil
) -> None:
    await start_canary(client, wait_until, steps=[0.3, 0.6])
    sides = await exposed(client)
    await convert(stores, registry, set(USERS[::2]))
    told: dict[str, Any] = {}

    async def seen() -> bool:
        told.update((await client.get("/rollouts")).json()["canary"])
        users: int = told["outcomes"][0]["canary_users"]
        return users >= len(sides["canary"])

    await wait_until(seen)
    assert {one["name"]: (one["harm"], one["breached"]) for one in told["outcomes"]} == {
        "converted": ("fewer", False),
        "failed": ("more", False),
        "fallback": ("more", False),
        "slow": ("more", False),
    }
    converted = told["outcomes"][0]
    assert converted["control_rate"] == pytest.approx(0.5, abs=0.1)
    assert converted["low"] < converted["difference"] < converted["high"]
    assert (told["version"], told["control"], told["share"], told["loaded"]) == ("second", "first", 0.3, True)
    assert "the step takes 1 h" in told["verdict"]
    further = await client.post("/rollouts/canary/advance", json={"reason": "in a hurry"})
    assert further.status_code == 200

    async def grown() -> bool:
        return (await exposed(client))["canary"] > sides["canary"]

    await wait_until(grown)
    assert rollout_of(registry).share == 0.6


async def test_a_canary_ends_when_another_version_goes_live(
    client: httpx.AsyncClient, registry: ModelRegistry, wait_until: WaitUntil
) -> None:
    await start_canary(client, wait_until)
    promote(registry, "second", actor="somebody in a hurry", reason="now")
    await wait_until(lambda: registry.alias(CANARY) is None)
    assert "the live version is second now" in registry.history(CANARY)[-1].reason


async def test_a_placement_has_a_version_of_its_own_and_wins_over_the_canary(
    client: httpx.AsyncClient, wait_until: WaitUntil
) -> None:
    await start_canary(client, wait_until)
    pinned = await client.post("/versions/second/promote", json={"reason": "for carts", "alias": "placement:cart"})
    assert pinned.status_code == 200

    async def taken_over() -> bool:
        answers = [await recommended(client, user, placement="cart") for user in USERS[:20]]
        return all(one["index_version"] == "second" and "variant" not in one for one in answers)

    await wait_until(taken_over)
    assert {(await recommended(client, user))["index_version"] for user in USERS[:20]} == {"first", "second"}


async def test_a_shadow_is_compared_with_the_answers_that_were_given(
    client: httpx.AsyncClient, wait_until: WaitUntil
) -> None:
    body = {"version": "second", "reason": "how different is it?", "share": 1.0}
    assert (await client.post("/rollouts/shadow", json=body)).status_code == 200

    async def reported() -> bool:
        answers = [await recommended(client, f"u{n}") for n in range(20)]
        assert {(one["index_version"], one.get("variant")) for one in answers} == {("first", None)}
        shadow = (await client.get("/rollouts")).json()["shadow"]
        return bool(shadow["compared"] >= 20)

    await wait_until(reported, 30.0)
    shadow = (await client.get("/rollouts")).json()["shadow"]
    assert (shadow["version"], shadow["share"], shadow["failed"]) == ("second", 1.0, 0)
    assert 0.0 < shadow["overlap"] <= 1.0, "the same tastes, so mostly the same items"
    assert 0.0 < shadow["seconds"]["shadow_p50"] <= shadow["seconds"]["shadow_p99"]
    assert shadow["scores"]["live_mean"] > 0.5
    assert "millirec_shadow_overlap_bucket" in (await client.get("/metrics")).text


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("canary", {"version": "third", "reason": "hope"}, 404),
        ("canary", {"version": "first", "reason": "it is live"}, 409),
        ("canary", {"version": "second", "reason": "all at once", "steps": [1.0]}, 422),
        ("canary", {"version": "second"}, 422),
        ("canary/advance", {"reason": "there is none"}, 404),
        ("canary/stop", {"reason": "there is none"}, 404),
        ("shadow", {"version": "second", "reason": "more than all", "share": 1.5}, 422),
        ("shadow/stop", {"reason": "there is none"}, 404),
    ],
)
async def test_what_cannot_be_is_refused(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], status: int
) -> None:
    assert (await client.post(f"/rollouts/{path}", json=body)).status_code == status


async def test_rollouts_are_for_administrators(guarded_client: httpx.AsyncClient) -> None:
    for key, status in (("r" * 20, 403), ("a" * 20, 200), ("wrong", 401)):
        assert (await guarded_client.get("/rollouts", headers={"X-API-Key": key})).status_code == status
