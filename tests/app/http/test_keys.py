"""Who may do what, once keys are configured."""

import httpx
import pytest

from app.main import create_app
from app.settings import AppSettings
from recsys.stores.model_registry import ModelRegistry
from tests.app.conftest import KEYS, client_of


@pytest.mark.parametrize("headers", [{}, {"X-API-Key": "wrong"}, {"Authorization": "Bearer wrong"}])
async def test_no_key_and_a_wrong_key_are_401(guarded_client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    response = await guarded_client.get("/recommend", headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.headers["content-type"] == "application/problem+json"


async def test_a_key_may_come_as_a_bearer_token(guarded_client: httpx.AsyncClient) -> None:
    headers = {"Authorization": f"Bearer {KEYS['recommend']}"}
    assert (await guarded_client.get("/recommend", headers=headers)).status_code == 200


async def test_the_actor_of_a_move_is_the_holder_of_the_key(guarded_client: httpx.AsyncClient) -> None:
    headers = {"X-API-Key": KEYS["admin"]}
    response = await guarded_client.post("/versions/second/promote", json={"reason": "test"}, headers=headers)
    assert response.json()["actor"] == "admin"


async def test_health_and_metrics_need_no_key(guarded_client: httpx.AsyncClient) -> None:
    for path in ("/health/live", "/health/ready", "/metrics"):
        assert (await guarded_client.get(path)).status_code == 200


@pytest.mark.parametrize(("origin", "allowed"), [("https://shop.example", True), ("https://else.example", False)])
async def test_only_named_web_origins_may_call_from_the_browser(
    settings: AppSettings, registry: ModelRegistry, origin: str, allowed: bool
) -> None:
    serve = settings.serve.model_copy(update={"cors_origins": ("https://shop.example",)})
    async with client_of(create_app(settings.model_copy(update={"serve": serve}))) as client:
        response = await client.get("/popular", headers={"Origin": origin})
        assert (response.headers.get("access-control-allow-origin") == origin) is allowed
