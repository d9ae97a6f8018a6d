"""A key opens the routes of its scopes and no others: what trackers carry may neither hide items nor merge users."""

import re
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

import httpx
import pytest
import pytest_asyncio

from app.main import create_app
from tests.app.conftest import KEYS, client_of
from tests.attacks.in_process import app_settings

pytestmark = pytest.mark.asyncio(loop_scope="module")
NOTHING: dict[str, Any] = {}
ROUTES: list[tuple[str, str, Any, set[str]]] = [
    ("GET", "/recommend", None, {"recommend"}),
    ("POST", "/recommend", NOTHING, {"recommend"}),
    ("POST", "/recommend/batch", {"users": ["u1"]}, {"recommend"}),
    ("GET", "/items/i1/similar", None, {"recommend"}),
    ("GET", "/popular", None, {"recommend"}),
    ("GET", "/trending", None, {"recommend"}),
    ("GET", "/new", None, {"recommend"}),
    ("POST", "/explain", {"item_id": "i1"}, {"recommend"}),
    ("POST", "/events", {"user_id": "u1", "item_id": "i1", "type": "view"}, {"events"}),
    ("PUT", "/items", {"item_id": "i1", "title": "New"}, {"catalogue"}),
    ("GET", "/items?item_id=i1", None, {"catalogue", "admin"}),
    ("GET", "/items/i1", None, {"catalogue", "admin"}),
    ("GET", "/users/u1", None, {"users", "admin"}),
    ("DELETE", "/users/u9", None, {"users", "admin"}),
    ("GET", "/users/u1/erasures/none", None, {"users", "admin"}),
    ("POST", "/users/u1/merge", {"from": "u8"}, {"users", "admin"}),
    ("GET", "/placements", None, {"admin"}),
    ("GET", "/placements/home", None, {"admin"}),
    ("GET", "/placements/home/history", None, {"admin"}),
    ("PUT", "/placements/banner", {"k": 3}, {"admin"}),
    ("DELETE", "/placements/banner", None, {"admin"}),
    ("GET", "/models", None, {"admin"}),
    ("GET", "/versions", None, {"admin"}),
    ("GET", "/versions/history", None, {"admin"}),
    ("GET", "/versions/first/checks", None, {"admin"}),
    ("POST", "/versions/rollback", {"reason": "try"}, {"admin"}),
    ("POST", "/versions/first/promote", {"reason": "try"}, {"admin"}),
    ("POST", "/versions/first/pin", {"reason": "try"}, {"admin"}),
    ("POST", "/versions/first/unpin", {"reason": "try"}, {"admin"}),
    ("POST", "/versions/first/recommend", NOTHING, {"admin"}),
    ("POST", "/recommend/preview", {"placement": {}}, {"admin"}),
    ("GET", "/rollouts", None, {"admin"}),
    ("POST", "/rollouts/canary", {"version": "second", "reason": "try"}, {"admin"}),
    ("POST", "/rollouts/canary/advance", {"reason": "try"}, {"admin"}),
    ("POST", "/rollouts/canary/stop", {"reason": "try"}, {"admin"}),
    ("POST", "/rollouts/shadow", {"version": "second", "reason": "try"}, {"admin"}),
    ("POST", "/rollouts/shadow/stop", {"reason": "try"}, {"admin"}),
]
KEYLESS = {"/health/live", "/health/ready"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    """The service in process, with one key per scope."""
    keys = [{"name": name, "sha256": sha256(key.encode()).hexdigest(), "scopes": [name]} for name, key in KEYS.items()]
    async with client_of(create_app(app_settings(valkey_url, tmp_path_factory.mktemp("scopes"), keys=keys))) as opened:
        yield opened


@pytest.mark.parametrize("scope", sorted(KEYS))
@pytest.mark.parametrize(("method", "path", "body", "open_to"), ROUTES)
async def test_a_route_opens_to_its_scopes_alone(
    client: httpx.AsyncClient, method: str, path: str, body: Any, open_to: set[str], scope: str
) -> None:
    response = await client.request(method, path, json=body, headers={"X-API-Key": KEYS[scope]})
    if scope in open_to:
        assert response.status_code not in (401, 403), response.text
        assert response.status_code < 500, response.text
    else:
        assert response.status_code == 403, response.text
        assert repr(scope) in response.json()["detail"]


@pytest.mark.parametrize(("method", "path", "body", "open_to"), ROUTES)
async def test_no_route_opens_without_a_key(
    client: httpx.AsyncClient, method: str, path: str, body: Any, open_to: set[str]
) -> None:
    assert (await client.request(method, path, json=body)).status_code == 401


async def test_every_route_is_in_the_table_and_the_documentation_says_the_same(client: httpx.AsyncClient) -> None:
    documented = (await client.get("/openapi.json")).json()["paths"]
    table = {(method, template_of(documented, path, method)): open_to for method, path, _, open_to in ROUTES}
    table |= {("HEAD", path): open_to for (method, path), open_to in table.items() if method == "GET"}
    said = {
        (method.upper(), path): {name for one in operation["security"] for names in one.values() for name in names}
        for path, operations in documented.items()
        for method, operation in operations.items()
        if path not in KEYLESS
    }
    assert said == table


@pytest.mark.parametrize(
    ("method", "path", "needed"), [("PUT", "/items", "catalogue"), ("POST", "/users/a/merge", "users")]
)
async def test_a_key_for_events_hears_what_it_needs_now(
    client: httpx.AsyncClient, method: str, path: str, needed: str
) -> None:
    response = await client.request(method, path, json=NOTHING, headers={"X-API-Key": KEYS["events"]})
    detail = response.json()["detail"]
    assert f"'{needed}'" in detail
    assert "which 'events' no longer includes" in detail


def template_of(documented: dict[str, Any], path: str, method: str) -> str:
    """The documented path that this one is, the most literal first."""
    fits = [
        template
        for template in documented
        if method.lower() in documented[template]
        and re.fullmatch(re.sub(r"{\w+}", "[^/]+", template), path.partition("?")[0])
    ]
    return min(fits, key=lambda template: template.count("{"))
