"""Any web page may send requests to loopback. Without keys, the service heeds none but those of pages that may."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from app.http.origins import OriginCheck
from recsys.settings import StoreSettings
from tests.environment.deployment import Deployment, deployed
from tests.environment.fixtures import with_versions

SHOP = "https://shop.example"
EVENT = '{"user_id": "u1", "item_id": "i1", "type": "purchase", "event_id": "forged"}'
ROLLBACK = '{"reason": "because I can"}'
JSON = "application/json"
READS = (
    "/recommend?user_id=u1",
    "/users/u1",
    "/versions",
    "/metrics",
    "/docs",
    "/openapi.json",
    "/health/live",
    "/nothing",
)
CHANGES = (
    ("POST", "/events", EVENT),
    ("PUT", "/items", '{"item_id": "i1", "available": false}'),
    ("POST", "/versions/rollback", ROLLBACK),
    ("POST", "/recommend", '{"user_id": "u1"}'),
    ("POST", "/recommend/batch", '{"users": ["u1"]}'),
    ("POST", "/users/u1/merge", '{"from": "u2"}'),
    ("DELETE", "/users/u1", ""),
)
FORMS = (
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "",
    "text/plain, " + JSON,
)
"""Content types that a page may send without asking the service first."""


@pytest.fixture(scope="module")
def keyless(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A service as `demo` starts it, for the pages of one shop."""
    store = StoreSettings(url=SecretStr(valkey_url), prefix="keyless:", read_timeout=2.0, timeout=10.0)
    extra = {"MILLIREC_SERVE__CORS_ORIGINS": f'["{SHOP}"]', "MILLIREC_SERVE__ALLOWED_HOSTS": '["shop-api"]'}
    folder: Path = tmp_path_factory.mktemp("keyless")
    with deployed(store, folder, extra) as made:
        with_versions(made).serve()
        yield made


def send(keyless: Deployment, method: str, path: str, body: str = "", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.request(method, f"{keyless.url}{path}", content=body.encode(), headers=named, timeout=30.0)


def is_problem(response: httpx.Response, status: int) -> bool:
    problem = response.headers["content-type"] == "application/problem+json"
    return response.status_code == status and problem and response.json()["status"] == status


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
def test_a_body_that_is_not_called_json_is_refused(keyless: Deployment, method: str, path: str, body: str) -> None:
    for kind in FORMS:
        refused = send(keyless, method, path, body or "{}", Content_Type=kind)
        assert is_problem(refused, 415), (kind, refused.text)
        assert "Content-Type: application/json" in refused.json()["detail"]
    version = httpx.get(f"{keyless.url}/versions").json()["serving"]
    assert version == "first"


@pytest.mark.parametrize(("method", "path", "body"), [*CHANGES, *(("GET", path, "") for path in READS)])
def test_a_page_of_another_origin_is_refused_everywhere(keyless: Deployment, method: str, path: str, body: str) -> None:
    other_port = f"http://127.0.0.1:{keyless.port - 1}"
    for origin in (
        "https://evil.example",
        "null",
        other_port,
        f"http://localhost:{keyless.port}",
        SHOP + ".evil.example",
    ):
        refused = send(keyless, method, path, body, Content_Type=JSON, Origin=origin)
        assert is_problem(refused, 403), (origin, refused.text)
        assert "access-control-allow-origin" not in refused.headers
    for site in ("cross-site", "same-site"):
        assert is_problem(send(keyless, method, path, body, Content_Type=JSON, Sec_Fetch_Site=site), 403)


@pytest.mark.parametrize(("method", "path", "body"), [*CHANGES, *(("GET", path, "") for path in READS)])
def test_a_name_that_was_bent_to_loopback_is_refused_everywhere(
    keyless: Deployment, method: str, path: str, body: str
) -> None:
    for host in ("evil.example", f"evil.example:{keyless.port}", "localhost.evil.example", "192.0.2.1", "[::2]", ""):
        refused = send(keyless, method, path, body, Content_Type=JSON, Host=host)
        assert is_problem(refused, 421), (host, refused.text)
        bent = send(keyless, method, path, body, Content_Type=JSON, Host=host, Origin=f"http://{host}")
        assert is_problem(bent, 421), (host, bent.text)


def test_a_page_of_another_origin_may_not_even_ask(keyless: Deployment) -> None:
    asks = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "content-type"}
    refused = send(keyless, "OPTIONS", "/events", Origin="https://evil.example", **asks)
    assert is_problem(refused, 403)
    allowed = send(keyless, "OPTIONS", "/events", Origin=SHOP, **asks)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == SHOP


def test_who_may_is_answered(keyless: Deployment) -> None:
    event = EVENT.replace("forged", "honest")
    for headers in (
        {},
        {"Origin": SHOP, "Sec_Fetch_Site": "cross-site"},
        {"Origin": keyless.url, "Sec_Fetch_Site": "same-origin"},
        {"Host": "localhost"},
        {"Host": f"LOCALHOST:{keyless.port}"},
        {"Host": f"[::1]:{keyless.port}"},
        {"Host": "shop-api:8000"},
        {"Sec_Fetch_Site": "none"},
    ):
        done = send(keyless, "POST", "/events", event, Content_Type="application/json; charset=utf-8", **headers)
        assert done.status_code == 202, (headers, done.text)
        assert send(keyless, "GET", "/recommend?user_id=u1", **headers).status_code == 200
    followed = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    assert send(keyless, "GET", "/docs", **followed).status_code == 200, "a person follows a link"
    assert is_problem(send(keyless, "POST", "/events", event, Content_Type=JSON, **followed), 403)


def test_a_refusal_that_the_shop_meets_can_be_read_by_its_page(keyless: Deployment) -> None:
    refused = send(keyless, "POST", "/events", EVENT, Content_Type="text/plain", Origin=SHOP)
    assert is_problem(refused, 415)
    assert refused.headers["access-control-allow-origin"] == SHOP


def test_refusals_are_counted(keyless: Deployment) -> None:
    send(keyless, "GET", "/versions", Host="evil.example")
    assert 'millirec_requests_refused_total{key="anonymous",reason="host"}' in httpx.get(f"{keyless.url}/metrics").text


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("", "null", 403),
        ("", "", 200),
        ("10.0.0.5:8000", "null", 403),
        ("10.0.0.5:8000", "chrome-extension://10.0.0.5:8000", 403),
        ("10.0.0.5:8000", "https://10.0.0.5:8000", 200),
    ],
)
def test_a_page_without_an_origin_is_nobodys_own(host: str, origin: str, status: int) -> None:
    headers = [(b"host", host.encode()), *([(b"origin", origin.encode())] if origin else [])]
    refused = OriginCheck("0.0.0.0", (), ()).refusal({"method": "POST", "headers": headers})  # noqa: S104
    assert (200 if refused is None else refused.status) == status
