"""One edge for every route: metrics, CORS, limits, methods, slots, errors."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
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

OPERATION_IDS = Path(__file__).parents[3] / "docs" / "operation_ids.tsv"
OPERATORS = re.compile(r"\w+ (/dead-letters|/imports|/versions/{version}/difference)")
"""Only where the table engine is installed."""


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


@asynccontextmanager
async def held_up(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Query]]:
    """No list is answered until the block ends; the queries that wait."""
    batcher, gate, waiting = app.state.services.batcher, asyncio.Event(), list[Query]()
    real = batcher.recommend

    async def recommend(query: Query, placement: str = "") -> Any:
        waiting.append(query)
        await gate.wait()
        return await real(query, placement)

    monkeypatch.setattr(batcher, "recommend", recommend)
    try:
        yield waiting
    finally:
        gate.set()


LISTS = ("/recommend", "/popular", "/trending", "/new", "/items/i1/similar")


@pytest.mark.parametrize("path", LISTS)
async def test_more_than_can_be_answered_is_turned_away_at_once(
    app: FastAPI, narrow: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    shed = await metric(narrow, "millirec_requests_shed_total")
    async with held_up(app, monkeypatch) as inside:
        waiting = [asyncio.create_task(narrow.get(path)) for _ in range(3)]
        await wait_until(lambda: len(inside) == 3)
        for away in [*(await asyncio.gather(*map(narrow.get, LISTS))), await narrow.post("/explain", json={})]:
            assert away.status_code == 503
            assert away.headers["Retry-After"] == "1"
            assert away.headers["content-type"] == "application/problem+json"
        assert (await narrow.get("/health/live")).status_code == 200, "only recommendations are turned away"
        assert (await narrow.get("/versions")).status_code == 200, "what waits for others has slots of its own"
    assert {one.status_code for one in await asyncio.gather(*waiting)} == {200}
    assert await metric(narrow, "millirec_requests_shed_total") > shed
    assert (await narrow.get(path)).status_code == 200, "there is room again"


async def test_what_waits_for_others_is_bounded_too(
    settings: AppSettings, registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve = settings.serve.model_copy(update={"max_waiting": 1})
    app, gate, asked = create_app(settings.model_copy(update={"serve": serve})), asyncio.Event(), list[object]()

    async def ask(*call: object) -> list[object]:
        asked.append(call)
        await gate.wait()
        return []

    async with client_of(app) as client:
        monkeypatch.setattr(app.state.services.watcher, "ask", ask)
        waiting = asyncio.create_task(client.get("/versions/history"))
        await wait_until(lambda: len(asked) == 1)
        event = {"user_id": "u1", "item_id": "i1", "type": "view"}
        for away in (await client.get("/versions"), await client.post("/events", json=event)):
            assert (away.status_code, away.headers["Retry-After"]) == (503, "1")
        assert (await client.get("/recommend")).status_code == 200
        gate.set()
        assert (await waiting).status_code == 200
        assert (await client.post("/events", json=event)).status_code == 202


@pytest.mark.parametrize("path", LISTS)
async def test_requests_in_flight_are_counted_whatever_their_route(
    app: FastAPI, narrow: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    quiet = await metric(narrow, "millirec_requests_in_flight")
    async with held_up(app, monkeypatch) as inside:
        waiting = [asyncio.create_task(narrow.get(path)) for _ in range(2)]
        await wait_until(lambda: len(inside) == 2)
        assert await metric(narrow, "millirec_requests_in_flight") == quiet + 2
    await asyncio.gather(*waiting)
    assert await metric(narrow, "millirec_requests_in_flight") == quiet


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
    assert response.headers["Allow"] == "GET, HEAD, POST"
    assert (await narrow.get("/recommend/batch")).headers["Allow"] == "POST"
    assert (await narrow.options("/users/u1")).headers["Allow"] == "DELETE, GET, HEAD"


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


GETS = [
    *LISTS,
    *("/items?item_id=i1", "/items/i1", "/users/u1"),
    *("/models", "/versions", "/versions/history", "/versions/first/checks"),
    *("/placements", "/placements/home", "/placements/home/history", "/rollouts"),
    *("/health/live", "/health/ready", "/docs", "/openapi.json", "/asyncapi.json"),
]
CHANGING = {"content-length", "etag"}
"""An id or a time in the body makes these differ."""


@pytest.mark.parametrize("path", [*GETS, "/nothing", "/items/unheard-of", "/popular?k=0"])
async def test_head_is_answered_like_get_without_the_body(client: httpx.AsyncClient, path: str) -> None:
    got, head = await client.get(path), await client.head(path)
    assert head.status_code == got.status_code
    assert head.content == b""
    assert head.headers.keys() == got.headers.keys()
    for name in head.headers.keys() - CHANGING:
        assert head.headers[name] == got.headers[name]
    assert int(head.headers["content-length"]) > 0


async def test_every_get_of_the_documentation_has_its_head(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    assert {path for path, operations in paths.items() if "get" in operations} == {
        path for path, operations in paths.items() if "head" in operations
    }
    tried = {path.partition("?")[0] for path in GETS}
    untried = [path for path in paths if "get" in paths[path] and not _covered(path, tried)]
    assert untried == ["/users/{user_id}/erasures/{receipt}"]


def _covered(template: str, paths: set[str]) -> bool:
    pattern = re.compile(re.sub(r"{\w+}", "[^/]+", template))
    return any(pattern.fullmatch(path) for path in paths)


async def test_head_needs_the_same_key_and_is_counted_as_head(guarded_client: httpx.AsyncClient) -> None:
    assert (await guarded_client.head("/recommend")).status_code == 401
    assert (await guarded_client.head("/versions", headers={"X-API-Key": KEYS["events"]})).status_code == 403
    series = 'millirec_requests_total{method="HEAD",route="/items/{item_id}",status="200"}'
    before = await metric(guarded_client, series)
    assert (await guarded_client.head("/items/i1", headers={"X-API-Key": KEYS["catalogue"]})).status_code == 200
    assert await metric(guarded_client, series) == before + 1


async def test_operation_ids_are_those_that_clients_were_generated_from(client: httpx.AsyncClient) -> None:
    """Clients name their functions by them: a change of the list is a change of the API."""
    paths = (await client.get("/openapi.json")).json()["paths"]
    said = {
        operation["operationId"]: f"{method.upper()} {path}"
        for path, operations in paths.items()
        for method, operation in operations.items()
    }
    assert len(said) == sum(map(len, paths.values())), "no two operations have the same id"
    listed = dict(line.split("\t") for line in OPERATION_IDS.read_text("utf-8").splitlines())
    assert said == {name: operation for name, operation in listed.items() if not OPERATORS.match(operation)}
