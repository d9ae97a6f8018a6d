"""The console as its users get it: a process of its own before a service with keys."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import httpx
import psutil
import pytest
from pydantic import SecretStr

from recsys.settings import StoreSettings
from tests.environment.deployment import Deployment, deployed, free_port
from tests.environment.fixtures import with_versions
from tests.environment.waiting import wait_until_sync

KEY = "mr_admin"
PATHS = ("/", "/versions", "/rollouts")


@pytest.fixture(scope="module")
def console(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Deployment, str]]:
    """A service with one admin key and its console, both running; the console's URL beside the deployment."""
    port = free_port()
    folder: Path = tmp_path_factory.mktemp("console")
    keys = [{"name": "ann", "sha256": sha256(KEY.encode()).hexdigest(), "scopes": ["admin", "recommend"]}]
    extra = {
        "MILLIREC_SERVE__KEYS": json.dumps(keys),
        "MILLIREC_CONSOLE__PORT": str(port),
    }
    with deployed(StoreSettings(url=SecretStr(valkey_url), prefix=f"{uuid4()}:"), folder, extra) as made:
        made.environment["MILLIREC_CONSOLE__API_URL"] = made.url
        made.start("console", "console")
        with_versions(made).serve()
        url = f"http://127.0.0.1:{port}"
        wait_until_sync(lambda: _answers(f"{url}/health"), 30.0)
        yield made, url


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


@contextmanager
def logged_in(url: str, key: str = KEY) -> Iterator[httpx.Client]:
    """A browser that has sent the login's form."""
    with httpx.Client(base_url=url, headers={"Origin": url}, follow_redirects=True, timeout=20.0) as browser:
        browser.post("/login", data={"key": key})
        yield browser


def test_pages_are_for_those_who_hold_an_admin_key(console: tuple[Deployment, str]) -> None:
    deployment, url = console
    with logged_in(url, "mr_wrong") as stranger:
        assert "does not know this key" in stranger.post("/login", data={"key": "mr_wrong"}).text
        assert stranger.get("/versions").url.path == "/login"
    with logged_in(url) as browser:
        for path in PATHS:
            page = browser.get(path)
            assert (page.status_code, page.url.path) == (200, path)
            assert KEY not in page.text
            assert page.headers["x-frame-options"] == "DENY"
            assert page.headers["cache-control"] == "no-store"
    assert KEY not in deployment.output("console")
    assert "mr_wrong" not in deployment.output("console")


def test_the_web_socket_is_for_pages_of_this_console_and_those_logged_in(console: tuple[Deployment, str]) -> None:
    _, url = console
    with logged_in(url) as browser:
        for origin, status in ((url, 101), ("http://evil.example", 403), (None, 403)):
            assert shaken(browser, origin) == status
    with httpx.Client(base_url=url) as stranger:
        assert shaken(stranger, url) == 403


def shaken(browser: httpx.Client, origin: str | None) -> int:
    """How the console answers the handshake of a web socket; 101 takes it."""
    asked = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "bWlsbGlyZWMgY29uc29sZQ==",
        "Sec-WebSocket-Version": "13",
    }
    browser.headers.pop("Origin", None)
    headers = asked if origin is None else {**asked, "Origin": origin}
    path = "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
    with browser.stream("GET", path, headers=headers) as answer:
        return answer.status_code


def test_the_console_is_small(console: tuple[Deployment, str]) -> None:
    deployment, _ = console
    assert psutil.Process(deployment.processes["console"].pid).memory_info().rss < 250 * 2**20


def test_without_a_service_the_console_stays_up_and_says_so(console: tuple[Deployment, str]) -> None:
    """The last one here: it ends the service."""
    deployment, url = console
    with logged_in(url) as browser:
        deployment.kill("serve")
        assert "does not answer" in browser.post("/login", data={"key": KEY}).text
        assert browser.get("/versions").url.path == "/versions", "whoever was in stays in"
