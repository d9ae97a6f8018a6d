"""The routes that stand before FastAPI keep its manners: limits, methods, errors, metrics, CORS."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.main import create_app
from app.settings import AppSettings
from recsys.recommender.query import Query
from recsys.stores.model_registry import ModelRegistry
from tests.app.conftest import JSON, KEYS, client_of
from tests.environment.waiting import wait_until


@pytest.fixture
def app(settings: AppSettings, registry: ModelRegistry) -> FastAPI:
    serve = settings.serve.model_copy(update={"max_in_flight": 3, "cors_origins": ("https://shop.example",)})
    return create_app(settings.model_copy(update={"serve": serve}))


@pytest.fixture
async def narrow(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A service that answers three requests at a time, for the pages of one shop."""
    async with client_of(app) as client:
        yield client


async def metric(client: httpx.AsyncClient, line: str) -> float:
    lines = (await client.get("/metrics")).text.splitlines()
    return sum(float(one.rpartition(" ")[2]) for one in lines if one.startswith(line))


async def test_more_than_can_be_answered_is_turned_away_at_once(
    app: FastAPI, narrow: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    batcher, gate = app.state.services.batcher, asyncio.Event()
    real = batcher.recommend

    inside = 0

    async def held_up(query: Query, placement: str) -> Any:
        nonlocal inside
        inside += 1
        await gate.wait()
        return await real(query, placement)

    monkeypatch.setattr(batcher, "recommend", held_up)
    shed = await metric(narrow, "millirec_requests_shed_total")
    waiting = [asyncio.create_task(narrow.get("/recommend")) for _ in range(3)]
    await wait_until(lambda: inside == 3)
    away = await narrow.get("/recommend")
    assert away.status_code == 503
    assert away.headers["Retry-After"] == "1"
    assert away.headers["content-type"] == "application/problem+json"
    assert (await narrow.get("/health/live")).status_code == 200, "only recommendations are turned away"
    gate.set()
    assert {one.status_code for one in await asyncio.gather(*waiting)} == {200}
    assert await metric(narrow, "millirec_requests_shed_total") > shed
    assert (await narrow.get("/recommend")).status_code == 200, "there is room again"


async def test_every_answer_is_counted_with_its_status(narrow: httpx.AsyncClient) -> None:
    series = 'millirec_requests_total{method="GET",route="/recommend",status="%s"}'
    before = [await metric(narrow, series % status) for status in (200, 422)]
    await narrow.get("/recommend")
    await narrow.get("/recommend", params={"k": 0})
    after = [await metric(narrow, series % status) for status in (200, 422)]
    assert [late - early for early, late in zip(before, after, strict=True)] == [1, 1]


async def test_a_page_of_the_shop_may_call_and_others_may_not(narrow: httpx.AsyncClient) -> None:
    for origin, allowed in (("https://shop.example", "https://shop.example"), ("https://other.example", None)):
        response = await narrow.get("/recommend", headers={"Origin": origin})
        assert response.headers.get("access-control-allow-origin") == allowed
    preflight = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
    assert (await narrow.options("/recommend", headers=preflight)).status_code == 200


@pytest.mark.parametrize("path", ["/recommend", "/recommend/batch"])
async def test_a_body_over_the_limit_is_413(narrow: httpx.AsyncClient, path: str) -> None:
    response = await narrow.post(path, content=b"x" * 1_100_000, headers=JSON)
    assert response.status_code == 413
    assert response.headers["content-type"] == "application/problem+json"


async def test_methods_that_do_not_exist_are_405_and_name_those_that_do(narrow: httpx.AsyncClient) -> None:
    response = await narrow.put("/recommend")
    assert response.status_code == 405
    assert response.headers["Allow"] == "GET, POST"
    assert (await narrow.get("/recommend/batch")).status_code == 405


async def test_a_bug_is_a_logged_500_and_no_broken_connection(
    app: FastAPI, narrow: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(query: Query) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(app.state.services.batcher, "recommend", broken)
    response = await narrow.get("/recommend")
    assert response.status_code == 500
    assert response.json()["detail"] == "an unexpected error was logged"


async def test_a_bearer_token_is_as_good_as_the_header(guarded_client: httpx.AsyncClient) -> None:
    key = KEYS["recommend"]
    for headers in ({"X-API-Key": key}, {"Authorization": f"Bearer {key}"}, {"authorization": f"bearer  {key} "}):
        assert (await guarded_client.get("/recommend", headers=headers)).status_code == 200
    assert (await guarded_client.get("/recommend", headers={"Authorization": f"Basic {key}"})).status_code == 401
    assert (await guarded_client.get("/recommend")).headers["WWW-Authenticate"] == "Bearer"
    assert (await guarded_client.get("/recommend", headers={"X-API-Key": KEYS["events"]})).status_code == 403
