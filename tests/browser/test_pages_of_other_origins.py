"""A page of another origin in a real Chromium, on a service without keys: it writes nothing and reads nothing."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from json import dumps
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect
from pydantic import SecretStr

from recsys.settings import StoreSettings
from tests.environment.deployment import Deployment, deployed
from tests.environment.fixtures import with_versions
from tests.environment.waiting import wait_until_sync

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

WAYS = """async ([url, event, method, type, mode]) => {
    try {
        const headers = type ? {"Content-Type": type} : {};
        const answer = await fetch(url, {method, mode, headers, body: method === "GET" ? undefined : event});
        return [answer.type, answer.status];
    } catch (error) {
        return ["refused", 0];
    }
}"""


@pytest.fixture(scope="module")
def keyless(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    store = StoreSettings(url=SecretStr(valkey_url), prefix="pages:", read_timeout=2.0, timeout=10.0)
    with deployed(store, tmp_path_factory.mktemp("pages")) as made:
        with_versions(made).serve()
        made.start("consume", "consume", "features")
        yield made


@pytest.fixture
def evil(tmp_path: Path) -> Iterator[str]:
    """The origin of somebody else's pages."""
    (tmp_path / "index.html").write_text("<!doctype html><title>win a prize</title>")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://localhost:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def window(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    yield context.new_page()
    context.close()


def event(user: str) -> str:
    return dumps({"user_id": user, "item_id": "i1", "type": "purchase"})


def is_known(service: Deployment, user: str) -> bool:
    return bool(httpx.get(f"{service.url}/users/{user}").json()["known"])


def test_a_page_of_another_origin_cannot_write_an_event(keyless: Deployment, evil: str, window: Page) -> None:
    window.goto(evil)
    for type_ in ("text/plain", "application/x-www-form-urlencoded", "application/json", ""):
        for mode in ("no-cors", "cors"):
            kind, status = window.evaluate(WAYS, [f"{keyless.url}/events", event("victim"), "POST", type_, mode])
            assert (kind, status) in (("opaque", 0), ("refused", 0)), (type_, mode)
    window.evaluate("([url, event]) => navigator.sendBeacon(url, event)", [f"{keyless.url}/events", event("victim")])
    window.set_content(
        f'<form method="post" enctype="text/plain" action="{keyless.url}/events">'
        f"<input name='{event('victim')[:-1]}, \"extra\": {{\"a' value='\": 1}}}}'><button>win</button></form>"
    )
    window.get_by_role("button", name="win").click()
    expect(window.get_by_text("Not allowed")).to_be_visible()
    # Behind all of that on the topic, an event of somebody who may.
    honest = httpx.post(f"{keyless.url}/events", json={"user_id": "victim-2", "item_id": "i1", "type": "purchase"})
    assert honest.status_code == 202
    wait_until_sync(lambda: is_known(keyless, "victim-2"), 60.0)
    assert not is_known(keyless, "victim")
    refused = 'millirec_requests_refused_total{key="anonymous",reason="origin"}'
    wait_until_sync(lambda: refused in httpx.get(f"{keyless.url}/metrics").text, 20.0)


def test_a_page_of_another_origin_cannot_read(keyless: Deployment, evil: str, window: Page) -> None:
    window.goto(evil)
    for path in ("/users/u1", "/recommend?user_id=u1", "/versions", "/metrics", "/openapi.json"):
        assert window.evaluate(WAYS, [keyless.url + path, "", "GET", "", "cors"]) == ["refused", 0]


def test_the_documentation_is_there_without_any_other_host(keyless: Deployment, window: Page) -> None:
    complaints: list[str] = []
    asked: set[str] = set()
    window.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    window.on("pageerror", lambda error: complaints.append(str(error)))
    window.on("request", lambda request: asked.add("/".join(request.url.split("/")[:3])))
    window.goto(f"{keyless.url}/docs")
    expect(window.get_by_role("heading", name="millirec")).to_be_visible()
    window.get_by_role("button", name="GET /popular", exact=False).first.click()
    window.get_by_role("button", name="Try it out").click()
    window.get_by_role("button", name="Execute").click()
    expect(window.get_by_text("recommendation_id").first).to_be_visible()
    assert {one for one in asked if not one.startswith("data:")} == {keyless.url}
    assert complaints == []
    # And the page may write, as one of the service's own.
    written = window.evaluate(WAYS, ["/events", event("reader"), "POST", "application/json", "cors"])
    assert written == ["basic", 202]
