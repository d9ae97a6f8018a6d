"""One key that asks without end leaves the others their share, and no key is answered beyond its rate."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.http.callers import RateLimit
from app.main import create_app
from tests.app.conftest import client_of
from tests.attacks.bystanders import bystanders
from tests.attacks.conftest import KEYS, RIVAL, Report
from tests.attacks.in_process import app_settings
from tests.environment.deployment import Deployment
from tests.environment.waiting import wait_until_sync

SLOW = 0.001
"""A token in a thousand seconds: nobody waits for that."""


def key(name: str, **limits: Any) -> dict[str, Any]:
    return {"name": name, "sha256": sha256(name.encode()).hexdigest(), "scopes": ["recommend", "events"], **limits}


async def statuses(client: httpx.AsyncClient, name: str, path: str = "/recommend", count: int = 6) -> list[int]:
    return [(await client.get(path, headers={"X-API-Key": name})).status_code for _ in range(count)]


@pytest.fixture
async def limited(valkey_url: str, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Three requests at once for each key, and what a key says of itself."""
    keys = [key("plain"), key("other"), key("wide", burst=5), key("fast", requests_per_second=1e6, burst=1000)]
    settings = app_settings(valkey_url, tmp_path, keys=keys, requests_per_second=SLOW, burst=3)
    async with client_of(create_app(settings)) as opened:
        yield opened


async def test_over_its_rate_a_key_gets_429_and_the_others_their_answers(limited: httpx.AsyncClient) -> None:
    assert await statuses(limited, "plain") == [200, 200, 200, 429, 429, 429]
    assert await statuses(limited, "other", count=3) == [200, 200, 200]
    assert await statuses(limited, "wide") == [200, 200, 200, 200, 200, 429]
    assert set(await statuses(limited, "fast", count=50)) == {200}


async def test_a_429_says_when_to_come_back_and_is_counted_by_key(limited: httpx.AsyncClient) -> None:
    await statuses(limited, "plain", count=3)
    refused = await limited.get("/recommend", headers={"X-API-Key": "plain"})
    assert refused.headers["content-type"] == "application/problem+json"
    assert 1 <= int(refused.headers["Retry-After"]) <= 1 / SLOW
    assert refused.json()["status"] == 429
    assert 'millirec_requests_refused_total{key="plain",reason="rate"}' in (await limited.get("/metrics")).text


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/popular"), ("GET", "/items/i1/similar"), ("POST", "/events"), ("POST", "/explain")]
)
async def test_every_route_counts_towards_the_rate(limited: httpx.AsyncClient, method: str, path: str) -> None:
    await statuses(limited, "plain", count=3)
    assert (await limited.request(method, path, headers={"X-API-Key": "plain"}, json={})).status_code == 429


async def test_what_is_refused_for_its_key_or_scope_costs_no_token(limited: httpx.AsyncClient) -> None:
    assert await statuses(limited, "plain", "/versions", 10) == [403] * 10
    assert await statuses(limited, "nobody", count=10) == [401] * 10
    assert await statuses(limited, "plain", count=3) == [200] * 3


async def test_without_keys_everybody_is_one_caller(valkey_url: str, tmp_path: Path) -> None:
    async with client_of(create_app(app_settings(valkey_url, tmp_path, requests_per_second=SLOW, burst=3))) as client:
        assert await statuses(client, "any") == [200, 200, 200, 429, 429, 429]
        assert (await client.get("/health/live")).status_code == 200


@given(
    per_second=st.floats(0.1, 1000),
    burst=st.integers(1, 50),
    pauses=st.lists(st.floats(0, 2, allow_subnormal=False), min_size=1, max_size=200),
)
def test_no_more_than_the_burst_and_the_rate_over_time(per_second: float, burst: int, pauses: list[float]) -> None:
    limit, now, admitted = RateLimit(per_second, burst), 1000.0, 0
    for pause in pauses:
        now += pause
        wait = limit.wait(now)
        admitted += not wait
        assert admitted <= burst + per_second * (now - 1000.0) + 1e-6
        if wait:
            assert limit.wait(now + wait + 1e-6) == 0, "what it says to wait is enough"
            now += wait + 1e-6
            admitted += 1


@pytest.mark.parametrize("path", ["/recommend", "/popular", "/trending", "/new", "/items/i1/similar"])
async def test_beside_a_key_that_takes_all_it_can_another_gets_in(valkey_url: str, tmp_path: Path, path: str) -> None:
    settings = app_settings(valkey_url, tmp_path, keys=[key("hog"), key("shop")], max_in_flight=8)
    async with client_of(create_app(settings)) as client:
        hog = [asyncio.create_task(client.get(path, headers={"X-API-Key": "hog"})) for _ in range(40)]
        shop = await client.get(path, headers={"X-API-Key": "shop"})
        answers = [answer.status_code for answer in await asyncio.gather(*hog)]
        assert shop.status_code == 200
        assert set(answers) == {200, 429}, "all but the quarter that is for others"


def test_a_flood_of_singles_by_one_key_leaves_another_its_answers(rivals: Deployment, report: Report) -> None:
    with bystanders(rivals.url, KEYS["recommend"]) as shoppers:
        with flood(rivals.url) as answered:
            wait_until_sync(lambda: len(answered) > 100, 30.0)
            shoppers.go_on(100)
        report("64 connections of singles in `home` by one key", shoppers)
    assert set(answered) <= {200, 429, 503}
    assert shoppers.keyed_share >= 0.95


@contextmanager
def flood(url: str) -> Iterator[list[int]]:
    """The rival's 64 clients, who ask as fast as they can until the block ends; the statuses they get."""
    answered: list[int] = []
    ended = threading.Event()

    async def client(session: httpx.AsyncClient) -> None:
        while not ended.is_set():
            answered.append((await session.get("/recommend?placement=home&user_id=u1")).status_code)

    async def clients() -> None:
        limits = httpx.Limits(max_connections=64)
        async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": RIVAL}, timeout=60, limits=limits) as session:
            await asyncio.gather(*(client(session) for _ in range(64)))

    thread = threading.Thread(target=lambda: asyncio.run(clients()))
    thread.start()
    try:
        yield answered
    finally:
        ended.set()
        thread.join()
