"""Batches have slots of their own and take turns: whoever asks for all they can get turns nobody else away."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from app.main import create_app
from app.settings import AppSettings
from loadtests.population import Population, publish, user_id
from recsys.settings import StoreSettings
from recsys.stores.model_registry import ModelRegistry
from recsys.stores.online import open_stores
from tests.app.conftest import client_of
from tests.attacks.bystanders import bystanders
from tests.attacks.conftest import KEYS, RIVAL, Report, rivals_environment
from tests.environment.deployment import Deployment, deployed
from tests.environment.waiting import wait_until_sync

CLIENTS = 32
"""Batches at a time."""
USERS, K = 200, 500
"""As much as one may ask for."""
HEAVY = {"users": [user_id(row) for row in range(USERS)], "k": K, "placement": "home"}


@pytest.mark.parametrize(("users", "k", "status"), [(10, 10, 200), (11, 10, 422), (1, 101, 422), (2, None, 200)])
async def test_a_batch_is_bounded_by_users_times_k(
    settings: AppSettings, registry: ModelRegistry, users: int, k: int | None, status: int
) -> None:
    serve = settings.serve.model_copy(update={"max_batch_items": 100})
    async with client_of(create_app(settings.model_copy(update={"serve": serve}))) as client:
        response = await client.post("/recommend/batch", json={"users": ["u1"] * users, "k": k})
        assert response.status_code == status
        if status == 422:
            assert response.json()["errors"][0]["field"] == "users"


async def test_batches_fill_their_own_slots_and_singles_go_on(settings: AppSettings, registry: ModelRegistry) -> None:
    serve = settings.serve.model_copy(update={"max_batches": 2, "max_in_flight": 2})
    async with client_of(create_app(settings.model_copy(update={"serve": serve}))) as client:
        batch = {"users": [f"u{n}" for n in range(200)], "k": 20}
        waiting = [asyncio.create_task(client.post("/recommend/batch", json=batch)) for _ in range(6)]
        single = await client.get("/recommend", params={"user_id": "u1"})
        answers = await asyncio.gather(*waiting)
        assert single.status_code == 200
        assert sorted(answer.status_code for answer in answers) == [200, 200, 503, 503, 503, 503]
        assert all(int(answer.headers["Retry-After"]) >= 1 for answer in answers if answer.status_code == 503)


async def test_a_batch_in_parts_is_the_answer_to_each_user(settings: AppSettings, registry: ModelRegistry) -> None:
    users = [f"u{n % 25}" for n in range(150)]
    async with client_of(create_app(settings)) as client:
        body = {"users": users, "k": 40, "placement": "home", "properties": ["title"]}
        found = (await client.post("/recommend/batch", json=body)).json()
        assert [answer["user_id"] for answer in found["answers"]] == users
        one = (await client.get("/recommend", params={"user_id": "u3", "k": 40, "placement": "home"})).json()
        of_batch = next(answer for answer in found["answers"] if answer["user_id"] == "u3")
        assert [item["item_id"] for item in of_batch["items"]] == [item["item_id"] for item in one["items"]]


@pytest.fixture
def busy_shop(store_settings: StoreSettings, tmp_path: Path) -> Iterator[Deployment]:
    """The same as `rivals` with three thousand items, so that five hundred of them are work."""
    with deployed(store_settings, tmp_path, rivals_environment()) as made:
        population = Population.generate(3000, 1000, 32)
        publish(tmp_path, made.environment, population, ["bench"])
        asyncio.run(save(store_settings, population))
        made.serve()
        yield made


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_batches_as_large_as_may_be_turn_no_single_away(busy_shop: Deployment, report: Report) -> None:
    with bystanders(busy_shop.url, KEYS["recommend"], "/recommend?user_id=user-3&k=5") as shoppers:
        with flood(busy_shop.url) as statuses:
            wait_until_sync(lambda: statuses, 60.0)
            shoppers.go_on(200, 120.0)
        report(f"{CLIENTS} batches of {USERS} x k={K} in `home`", shoppers)
    assert set(statuses) <= {200, 429, 503}
    assert shoppers.keyed_share >= 0.95
    # The flood's clients have hung up: nobody waits for what they asked.
    wait_until_sync(lambda: is_idle(busy_shop.url), 15.0)


@contextmanager
def flood(url: str) -> Iterator[list[int]]:
    """`CLIENTS` who send one batch on the heels of another until the block ends and they hang up."""
    statuses: list[int] = []
    ended = threading.Event()

    async def client(session: httpx.AsyncClient) -> None:
        while True:
            statuses.append((await session.post("/recommend/batch", json=HEAVY)).status_code)

    async def clients() -> None:
        limits = httpx.Limits(max_connections=CLIENTS)
        headers = {"X-API-Key": RIVAL}
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=300, limits=limits) as session:
            tasks = [asyncio.create_task(client(session)) for _ in range(CLIENTS)]
            await asyncio.to_thread(ended.wait)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    thread = threading.Thread(target=lambda: asyncio.run(clients()))
    thread.start()
    try:
        yield statuses
    finally:
        ended.set()
        thread.join()


def is_idle(url: str) -> bool:
    """Return whether no user was answered between two looks."""
    return answered(url) == answered(url)


def answered(url: str) -> float:
    """Users answered so far; looked at after a while, since metrics may be those of a moment ago."""
    time.sleep(1.2)  # The page of metrics is made anew after a second.
    lines = httpx.get(f"{url}/metrics", timeout=30).text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("millirec_recommendations_total"))


async def save(settings: StoreSettings, population: Population) -> None:
    stores = open_stores(settings)
    try:
        await stores.users.save(list(population.features("bench")))
    finally:
        await stores.aclose()
