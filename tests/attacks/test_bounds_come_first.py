"""A request that asks for too much is refused by its size, before the work begins that its size would make."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from itertools import count
from time import perf_counter
from typing import Any

import httpx
import pytest
import pytest_asyncio

from app.main import create_app
from recsys.filters.expression import compile_expression
from tests.app.conftest import client_of
from tests.attacks.bystanders import bystanders
from tests.attacks.conftest import KEYS, RIVAL, Report
from tests.attacks.in_process import app_settings
from tests.environment.deployment import Deployment
from tests.environment.waiting import wait_until_sync

GENEROUS = 5.0
"""Seconds for a refusal, on a machine with a lot else to do."""
MANY = 10_000
IDS = [f"i{n}" for n in range(MANY)]
FEW = [str(n) for n in range(3500)]
"""As many as fit into a URL that is read at all."""
fresh = count()


def expression(length: int, term: str = "price = {} or ") -> str:
    """One that nobody compiled before, of about this length."""
    text = ""
    while len(text) + 32 < length:
        text += term.format(next(fresh))
    return text + "available"


LONG = expression(10_000)
BOOSTS = [{"when": expression(2000), "factor": 2} for _ in range(490)]
DEEP = "(" * 5000 + "available" + ")" * 5000
LISTS = {"session_items": IDS, "cart_items": IDS, "exclude": IDS, "properties": IDS, "context": dict.fromkeys(IDS, "x")}
PLACEMENTS: list[dict[str, Any]] = [
    {"boosts": BOOSTS},
    {"boosts": BOOSTS[:16]},
    {"filter": LONG},
    {"sources": [{"source": "personal"}] * MANY},
    {"fallback": ["popular"] * MANY},
    {"properties": IDS},
    {"exclude_seen": {f"type{n}": 1 for n in range(MANY)}},
    {"k": MANY},
]
QUESTIONS: list[dict[str, Any]] = [
    *({name: value} for name, value in LISTS.items()),
    {"filter": LONG},
    {"filter": DEEP},
    {"boosts": BOOSTS},
    {"boosts": BOOSTS[:16]},
    {"k": MANY},
    {"user_id": "u" * MANY},
    {"placement": "p" * MANY},
    {"cursor": "A" * 100_000},
    {"session_items": ["a"] * 250_000},
]
BODIES: list[tuple[str, str, dict[str, Any]]] = [
    *(("POST", "/recommend", asked) for asked in QUESTIONS),
    *(("POST", "/explain", {"item_id": "i1", **asked}) for asked in QUESTIONS),
    *(("POST", "/versions/first/recommend", asked) for asked in QUESTIONS),
    *(("POST", "/recommend/preview", {"placement": placement}) for placement in PLACEMENTS),
    *(("PUT", "/placements/wide", placement) for placement in PLACEMENTS),
    ("POST", "/recommend/preview", {"placement": {}, "session_items": IDS}),
    ("POST", "/recommend/batch", {"users": IDS}),
    ("POST", "/recommend/batch", {"users": ["a"] * 250_000}),
    ("POST", "/recommend/batch", {"users": IDS[:1000], "k": 500}),
    ("POST", "/recommend/batch", {"users": ["u1"], "exclude": IDS}),
    ("POST", "/recommend/batch", {"users": ["u1"], "filter": LONG}),
    ("POST", "/events", {"events": [1] * 400_000}),
    ("POST", "/events", {"user_id": "u" * MANY, "item_id": "i1", "type": "view"}),
    ("PUT", "/items", {"items": [{}] * 300_000}),
    ("PUT", "/items", {"item_id": "i1", "categories": IDS}),
    ("PUT", "/items", {"item_id": "i1", "properties": dict.fromkeys(IDS, 1)}),
    ("POST", "/users/u1/merge", {"from": "u" * MANY}),
    ("POST", "/versions/first/promote", {"reason": "r" * MANY}),
    ("POST", "/rollouts/canary", {"version": "second", "reason": "r", "steps": [0.1] * MANY}),
    ("POST", "/rollouts/canary", {"version": "second", "reason": "r", "converts": ["view"] * MANY}),
]
QUERIES: list[tuple[str, dict[str, Any]]] = [
    *(
        (path, asked)
        for path in ("/recommend", "/popular", "/trending", "/new", "/items/i1/similar")
        for asked in (
            {"filter": LONG},
            {"filter": DEEP},
            {"properties": FEW},
            {"k": MANY},
            dict.fromkeys(FEW, 1),
        )
    ),
    *(("/recommend", {name: FEW}) for name in ("session_items", "cart_items", "exclude")),
    ("/items", {"item_id": FEW}),
    ("/trending", {"hours": 1e9}),
    ("/versions/history", {"limit": 10**9}),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(create_app(app_settings(valkey_url, tmp_path_factory.mktemp("bounds")))) as opened:
        yield opened


async def is_refused(client: httpx.AsyncClient, method: str, path: str, **sent: Any) -> None:
    compiled, began = compile_expression.cache_info().misses, perf_counter()
    response = await client.request(method, path, **sent)
    assert 400 <= response.status_code < 500, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert len(response.content) < 2000, "what was sent is not sent back"
    assert compile_expression.cache_info().misses == compiled, "nothing was compiled"
    assert perf_counter() - began < GENEROUS


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("method", "path", "body"), BODIES)
async def test_a_body_with_too_much_is_refused(
    client: httpx.AsyncClient, method: str, path: str, body: dict[str, Any]
) -> None:
    await is_refused(client, method, path, json=body)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("path", "params"), QUERIES)
async def test_a_query_with_too_much_is_refused(client: httpx.AsyncClient, path: str, params: dict[str, Any]) -> None:
    await is_refused(client, "GET", path, params=params)


@pytest.mark.asyncio(loop_scope="module")
async def test_what_was_compiled_is_forgotten_in_time(client: httpx.AsyncClient) -> None:
    for _ in range(600):
        await client.get("/popular", params={"filter": f"price = {next(fresh)}"})
    info = compile_expression.cache_info()
    assert info.maxsize is not None
    assert info.currsize <= info.maxsize


@pytest.mark.asyncio(loop_scope="module")
async def test_the_event_loop_goes_on_while_expressions_are_compiled(client: httpx.AsyncClient) -> None:
    body = {"boosts": [{"when": expression(500), "factor": 2} for _ in range(16)]}
    slow = asyncio.create_task(client.post("/recommend", json=body))
    turns = 0
    while not slow.done():
        await asyncio.sleep(0)
        turns += 1
    assert (await slow).status_code == 200
    assert turns > 100


@pytest.mark.asyncio(loop_scope="module")
async def test_a_filter_does_not_wait_for_all_the_boosts_that_came_ahead_of_it(client: httpx.AsyncClient) -> None:
    many = [
        asyncio.create_task(
            client.post("/recommend", json={"boosts": [{"when": expression(500), "factor": 2} for _ in range(16)]})
        )
        for _ in range(8)
    ]
    await asyncio.wait(many, timeout=0.05)
    single = await client.post("/recommend", json={"filter": expression(500)})
    assert single.status_code == 200
    assert not any(task.done() for task in many)
    assert {answer.status_code for answer in await asyncio.gather(*many)} == {200}


def test_long_boosts_of_a_key_hold_nobody_else_up(rivals: Deployment, report: Report) -> None:
    with bystanders(rivals.url, KEYS["recommend"]) as shoppers:
        with asking_with_boosts(rivals.url) as statuses:
            wait_until_sync(lambda: len(statuses) > 10, 30.0)
            shoppers.go_on(100)
        report("16 clients with 16 boosts of 500 characters", shoppers)
    assert set(statuses) <= {200, 429, 503}
    assert shoppers.keyed_share >= 0.95


@contextmanager
def asking_with_boosts(url: str) -> Iterator[list[int]]:
    """The rival's clients, whose every request has boosts of its own; the statuses they get."""
    statuses: list[int] = []
    ended = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=url, headers={"X-API-Key": RIVAL}, timeout=30) as client:
            while not ended.is_set():
                body = {"boosts": [{"when": expression(500), "factor": 2} for _ in range(16)]}
                statuses.append(client.post("/recommend", json=body).status_code)

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        ended.set()
        for thread in threads:
            thread.join()
