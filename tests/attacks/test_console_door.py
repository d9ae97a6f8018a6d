"""Strangers before the console: what they reach, what it costs, and whether others still log in meanwhile."""

import asyncio
import json
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice, product
from math import log2
from time import monotonic
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import psutil
import pytest
from pydantic import SecretStr

from recsys.settings import StoreSettings
from tests.environment.deployment import Deployment, deployed, free_port
from tests.environment.fixtures import with_versions
from tests.environment.oidc_provider import CLIENT, Provider, serving
from tests.environment.waiting import wait_until, wait_until_sync

KEY = "a" * 20
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")
PATHS = (
    "/_nicegui/nothing",
    "/_nicegui/client/x/upload/1",
    "/_nicegui/auto/static/x",
    "/%5Fnicegui/nothing",
    "//_nicegui/nothing",
    "/_nicegui_ws/nothing",
    "/login",
    "/login/",
    "/login/nothing",
    "/oidc/login",
    "/oidc/callback",
    "/oidc/nothing",
    "/oidc/login/nothing",
    "/health",
    "/health/nothing",
    "/favicon.ico/nothing",
    "/login/../nothing",
    "/versions",
    "/nothing",
)
MEBIBYTE = 2**20


@dataclass(frozen=True)
class Door:
    """A console with keys and a provider, before a service with one admin key."""

    deployment: Deployment
    url: str
    provider: Provider

    def browser(self, **headers: str) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"Origin": self.url, **headers}, timeout=30.0)

    @property
    def memory(self) -> int:
        return int(psutil.Process(self.deployment.processes["console"].pid).memory_info().rss)


@pytest.fixture(scope="module")
def door(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    holder = {"name": "ann", "sha256": sha256(KEY.encode()).hexdigest(), "scopes": ["admin", "recommend"]}
    with ExitStack() as stack:
        provider = stack.enter_context(serving())
        extra = {
            "MILLIREC_SERVE__KEYS": json.dumps([holder]),
            "MILLIREC_CONSOLE__PORT": str(port),
            "MILLIREC_CONSOLE__API_KEY": KEY,
            "MILLIREC_CONSOLE__OIDC__ISSUER": provider.url,
            "MILLIREC_CONSOLE__OIDC__CLIENT_ID": CLIENT,
            "MILLIREC_CONSOLE__OIDC__DOMAINS": '["shop.example"]',
        }
        store = StoreSettings(url=SecretStr(valkey_url), prefix=f"{uuid4()}:")
        made = stack.enter_context(deployed(store, tmp_path_factory.mktemp("door"), extra))
        made.environment["MILLIREC_CONSOLE__API_URL"] = made.url
        made.start("console", "console")
        with_versions(made).serve()
        wait_until_sync(lambda: answers(f"{url}/health"), 60.0)
        yield Door(made, url, provider)


def answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("path", PATHS)
def test_a_stranger_is_shown_nothing_that_nicegui_makes(door: Door, path: str) -> None:
    with door.browser() as stranger:
        for method in METHODS:
            answer = stranger.request(method, path)
            assert answer.status_code in {200, 302, 303, 400, 401, 403, 404, 405, 413, 429}, (
                method,
                answer.status_code,
            )
            assert "nicegui" not in answer.text, method
            assert answer.headers["x-content-type-options"] == "nosniff", method
            assert answer.headers["cache-control"] == "no-store", method


def test_a_stranger_opens_no_socket_by_any_transport(door: Door) -> None:
    with door.browser() as stranger:
        for transport, method in product(("polling", "websocket"), METHODS):
            path = f"/_nicegui_ws/socket.io/?EIO=4&transport={transport}"
            assert stranger.request(method, path).status_code == 401, (transport, method)


def test_a_thousand_requests_of_strangers_take_no_memory(door: Door) -> None:
    def ask(stranger: httpx.Client, requests: int) -> None:
        for method, path in islice(product(METHODS * requests, PATHS), requests):
            stranger.request(method, f"{path}?next=/{uuid4()}")
            stranger.cookies.clear()

    with door.browser() as stranger:
        ask(stranger, 200)
        memory = door.memory
        ask(stranger, 1000)
    assert door.memory - memory < 16 * MEBIBYTE


@pytest.mark.parametrize("forwarded", [False, True], ids=["from one address", "with addresses that it makes up"])
async def test_of_sixty_tries_at_the_same_time_three_are_looked_at(door: Door, forwarded: bool) -> None:
    await wait_until(lambda: door_lets_in(door), 60.0)
    limits = httpx.Limits(max_connections=60)
    async with httpx.AsyncClient(base_url=door.url, headers={"Origin": door.url}, timeout=60.0, limits=limits) as many:
        began = monotonic()
        answers = await asyncio.gather(
            *(
                many.post(
                    "/login",
                    data={"key": f"wrong-{number}"},
                    headers={"X-Forwarded-For": f"10.0.0.{number}"} if forwarded else {},
                )
                for number in range(60)
            )
        )
        # From the third on each makes the next one wait, twice as long each time: a slow machine sees a few more.
        looked_at = 3 + int(log2(1 + monotonic() - began))
    statuses = Counter(answer.status_code for answer in answers)
    assert set(statuses) == {401, 429}
    assert statuses[401] <= looked_at
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers if answer.status_code == 429)


def door_lets_in(door: Door) -> bool:
    with door.browser() as person:
        return person.post("/login", data={"key": KEY}).status_code == 303


def test_a_thousand_logins_begun_at_the_provider_end_nobodys_own(door: Door) -> None:
    with door.browser() as person, door.browser() as stranger:
        begun = person.get("/oidc/login")
        asked = {name: values[0] for name, values in parse_qs(urlsplit(begun.headers["location"]).query).items()}
        for _ in range(1001):
            assert stranger.get("/oidc/login").status_code == 302
        door.provider.claims = {
            "nonce": asked["nonce"],
            "sub": "77",
            "email": "ann@shop.example",
            "email_verified": True,
        }
        back = person.get("/oidc/callback", params={"state": asked["state"], "code": "c"})
        assert back.status_code == 200, back.text
        assert person.get("/versions").status_code == 200


def connected(door: Door) -> socket.socket:
    address = urlsplit(door.url)
    return socket.create_connection((address.hostname or "", address.port or 0), timeout=60.0)


def test_half_sent_forms_keep_nobody_from_logging_in(door: Door) -> None:
    head = (
        f"POST /login HTTP/1.1\r\nHost: {urlsplit(door.url).netloc}\r\nOrigin: {door.url}\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\nkey="
    )
    with ExitStack() as stack:
        for _ in range(100):
            half = stack.enter_context(connected(door))
            half.sendall(head.encode())
        wait_until_sync(lambda: door_lets_in(door), 60.0)
        assert b"408" in half.recv(100), "and is told that it took too long"


@pytest.mark.parametrize("upgrade", ["", "Connection: Upgrade\r\nUpgrade: websocket\r\n"], ids=["page", "socket"])
def test_an_endless_head_is_refused(door: Door, upgrade: str) -> None:
    with connected(door) as endless:
        endless.sendall(f"GET / HTTP/1.1\r\nHost: h\r\n{upgrade}".encode())
        with suppress(ConnectionError):
            for _ in range(64):
                endless.sendall(b"X-Long: " + b"x" * 4000 + b"\r\n")
        with suppress(ConnectionResetError):
            assert b" 431 " in endless.recv(200)
    wait_until_sync(lambda: door_lets_in(door), 60.0)


def test_a_connection_that_says_nothing_is_closed(door: Door) -> None:
    with connected(door) as silent:
        assert silent.recv(10) == b""
