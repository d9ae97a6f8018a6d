"""A head within its bounds costs the service no more than any other, for whoever has no key."""

from collections.abc import Iterator

import httpx
import psutil
import pytest

from recsys.settings import StoreSettings
from tests.attacks.conftest import KEYS, keyed_environment
from tests.environment.deployment import Deployment, deployed
from tests.environment.fixtures import with_versions

ASKED = 200
"""Requests whose cost is compared."""
HEADS = {
    "a query of escapes": ("/items?item_id=" + "%41" * 10_000, {}),
    "a query of parameters": ("/items?" + "item_id=i&" * 2900, {}),
    "cookies": ("/items/i1", {"Cookie": "a=%41;" * 5000}),
    "a path of escapes": ("/items/" + "%41" * 10_000, {}),
}


@pytest.fixture(scope="module")
def service(module_store: StoreSettings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployed(module_store, tmp_path_factory.mktemp("long"), keyed_environment()) as made:
        with_versions(made).serve()
        yield made


def cost(service: Deployment, path: str, headers: dict[str, str]) -> float:
    """Seconds of the service's processor for many requests without a key."""
    process = psutil.Process(service.processes["serve"].pid)
    began = sum(process.cpu_times()[:2])
    with httpx.Client(base_url=service.url, headers=headers, timeout=30.0) as stranger:
        for _ in range(ASKED):
            assert stranger.get(path).status_code in {200, 401, 404, 414}
    return sum(process.cpu_times()[:2]) - began


@pytest.mark.slow
@pytest.mark.parametrize("kind", HEADS)
def test_a_long_head_costs_little_more_than_a_short_one(service: Deployment, kind: str) -> None:
    path, headers = HEADS[kind]
    cost(service, "/items/i1", {})
    short = cost(service, "/items/i1", {})
    assert cost(service, path, headers) < 4 * short + 0.2


def test_with_a_key_a_long_query_is_answered_as_before(service: Deployment) -> None:
    keyed = {"X-API-Key": KEYS["catalogue"]}
    asked = "&".join(f"item_id=i{number}&item_id=%C3%A9{number}" for number in range(250))
    answer = httpx.get(f"{service.url}/items?{asked}", headers=keyed)
    assert [item["item_id"] for item in answer.json()["items"]] == [f"i{number}" for number in range(40)]
    assert httpx.get(f"{service.url}/items?item_id=i1", headers={**keyed, "Cookie": "a=b"}).status_code == 200
    longest = "%F0%9F%9A%AA" * 128
    users = {"X-API-Key": KEYS["users"]}
    assert httpx.get(f"{service.url}/users/{longest}/erasures/{longest}", headers=users).status_code == 404


ANSWERS = [
    ("GET", "/nothing/here", 404),
    ("DELETE", "/popular", 405),
    ("GET", "/items/i1/nothing", 404),
    ("GET", "/health/live", 200),
    ("GET", "/health/ready", 200),
    ("GET", "/items", 401),
    ("GET", "/recommend", 401),
    ("POST", "/events", 401),
    ("GET", "/versions", 401),
]


@pytest.mark.parametrize(("method", "path", "status"), ANSWERS)
def test_without_a_key_a_long_query_is_answered_like_none(
    service: Deployment, method: str, path: str, status: int
) -> None:
    for query in ("", "?" + "item_id=%41&" * 2000):
        assert httpx.request(method, f"{service.url}{path}{query}").status_code == status, query[:9]


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/nothing/here", "/health/live"])
def test_a_long_query_costs_nothing_where_no_key_is_needed(service: Deployment, path: str) -> None:
    cost(service, path, {})
    assert cost(service, path + "?" + "item_id=%41&" * 2000, {}) < 4 * cost(service, path, {}) + 0.2
