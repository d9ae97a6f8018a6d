"""A real Chromium in front of a real console, service, consumers and Valkey."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import httpx
import msgspec
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright
from pydantic import SecretStr

from recsys.settings import StoreSettings
from tests.environment.deployment import Deployment, deployed, free_port
from tests.environment.fixtures import with_versions
from tests.environment.waiting import wait_until_sync

KEY = "k" * 32
DESKTOP, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 844}
PATIENCE = 15_000
"""Milliseconds that an expectation waits."""
expect.set_options(timeout=PATIENCE)
ROWS = "\n".join(
    ["user_id,item_id,type,occurred_at,price"]
    + [f"u{n},i{n},purchase,2011-12-0{n}T10:00:00Z,{n}.5" for n in range(1, 9)]
    + [",i3,purchase,2011-12-01T10:00:00Z,1"]
)
"""Nine rows to import, one of them of nobody."""


@dataclass(frozen=True)
class Shop:
    """One deployment with everything on, and its console."""

    deployment: Deployment
    url: str
    api: httpx.Client

    def path(self, path: str) -> str:
        return f"{self.url}{path}"


@pytest.fixture(scope="session")
def shop(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Two versions, the first live; an import; keys for whoever asks."""
    store = StoreSettings(url=SecretStr(valkey_url), prefix="browser:", read_timeout=2.0, timeout=10.0)
    holder = {
        "name": "ops",
        "sha256": sha256(KEY.encode()).hexdigest(),
        "scopes": ["recommend", "events", "catalogue", "admin"],
    }
    port = free_port()
    extra = {"MILLIREC_SERVE__KEYS": msgspec.json.encode([holder]).decode(), "MILLIREC_INGEST__LOG_WAIT": "0.1"}
    with deployed(store, tmp_path_factory.mktemp("browser"), extra) as deployment:
        url = f"http://127.0.0.1:{port}"
        deployment.environment["MILLIREC_CONSOLE__API_URL"] = deployment.url
        with_versions(deployment)
        (deployment.folder / "shop.csv").write_text(ROWS)
        deployment.run("import", str(deployment.folder / "shop.csv"))
        deployment.start("console", "console", "--port", str(port))
        deployment.start("consume", "consume")
        deployment.serve()
        wait_until_sync(lambda: answers(f"{url}/health"), 60.0)
        with httpx.Client(base_url=deployment.url, headers={"X-API-Key": KEY}, timeout=30.0) as api:
            yield Shop(deployment, url, api)


def answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    binary = shutil.which("chromium")
    if binary is None:
        pytest.skip("chromium is not there: apt install chromium")
    with sync_playwright() as playwright:
        # Its sandbox needs rights that a container's root has not got.
        opened = playwright.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def stranger(browser: Browser) -> Iterator[Page]:
    """A window of somebody who is not logged in; fails when a page complains on the browser's console."""
    context = browser.new_context(viewport=DESKTOP, color_scheme="light")  # type: ignore[arg-type]
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    complaints: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        # A refused login is a refused request, and Chromium tells of those.
        if message.type in ("error", "warning") and "/login" not in message.location.get("url", ""):
            complaints.append(f"{message.text} {message.location.get('url', '')}")

    page.on("console", heard)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()
    assert complaints == [], complaints


@pytest.fixture
def page(stranger: Page, shop: Shop) -> Page:
    """The same, logged in."""
    done = httpx.post(shop.path("/login"), data={"key": KEY}, headers={"Origin": shop.url}, timeout=30.0)
    assert done.status_code == 303, done.text
    cookies = [{"name": name, "value": value, "url": shop.url} for name, value in done.cookies.items()]
    stranger.context.add_cookies(cookies)  # type: ignore[arg-type]
    return stranger


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """Where pictures of every page go; MILLIREC_SCREENSHOTS names another folder."""
    folder = Path(os.environ.get("MILLIREC_SCREENSHOTS", "reports/screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
