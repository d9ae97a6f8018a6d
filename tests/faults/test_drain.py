"""SIGTERM under load: readiness goes first, whoever was let in is answered, and no connection is torn."""

import select
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from recsys.settings import StoreSettings
from tests.environment.deployment import Deployment, deployed
from tests.environment.fixtures import with_versions
from tests.environment.waiting import wait_until_sync
from tests.faults.shoppers import Shoppers, shopping
from tests.faults.tcp_proxy import RESET, proxying

USERS = [f"u{n}" for n in range(20)]
WORKERS = [1, pytest.param(2, marks=pytest.mark.slow)]


@contextmanager
def serving(
    store: StoreSettings, folder: Path, workers: int = 1, drain_wait: float = 0.5, **settings: str
) -> Iterator[Deployment]:
    extra = {"MILLIREC_SERVE__DRAIN_WAIT": str(drain_wait), **settings}
    with deployed(store, folder, extra) as made:
        with_versions(made).serve("--workers", str(workers))
        yield made


class LoadBalancer:
    """Asks for readiness all the time, and sends nobody to a service that is not ready."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.ready = True
        self.thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        with suppress(httpx.TransportError):
            while httpx.get(f"{self._url}/health/ready").status_code == 200:
                pass
        self.ready = False


@pytest.mark.parametrize("workers", WORKERS)
def test_behind_a_load_balancer_nobody_notices(store_settings: StoreSettings, tmp_path: Path, workers: int) -> None:
    with serving(store_settings, tmp_path, workers) as made:
        balancer = LoadBalancer(made.url)
        shoppers = Shoppers(made.url, USERS, connections=8, pause=0.0, shopping_on=lambda: balancer.ready)
        with shopping(shoppers):
            shoppers.go_on(300)
            balancer.thread.start()
            made.processes["serve"].send_signal(signal.SIGTERM)
            assert made.processes["serve"].wait(15) in {0, -signal.SIGTERM}
            balancer.thread.join()
    assert shoppers.failures == []
    assert shoppers.refused == 0
    assert set(shoppers.statuses) == {200}


@pytest.mark.parametrize("workers", WORKERS)
def test_whoever_goes_on_asking_is_answered_or_refused_but_never_torn_off(
    store_settings: StoreSettings, tmp_path: Path, workers: int
) -> None:
    with serving(store_settings, tmp_path, workers) as made:
        shoppers = Shoppers(made.url, USERS, connections=8, pause=0.0)
        with shopping(shoppers):
            shoppers.go_on(300)
            made.processes["serve"].send_signal(signal.SIGTERM)
            assert made.processes["serve"].wait(15) in {0, -signal.SIGTERM}
            wait_until_sync(lambda: shoppers.refused > 0)
    assert shoppers.failures == []
    assert set(shoppers.statuses) == {200}


def test_requests_in_flight_are_finished_though_they_take_longer_than_the_wait(
    valkey_url: str, store_settings: StoreSettings, tmp_path: Path
) -> None:
    with proxying(valkey_url.removeprefix("unix://")) as proxy:
        slow = store_settings.model_copy(update={"url": SecretStr(f"redis://127.0.0.1:{proxy.port}")})
        with serving(slow, tmp_path, drain_wait=0.1, MILLIREC_SERVE__DEADLINE="5") as made:
            shoppers = Shoppers(made.url, USERS, connections=4, pause=0.0)
            with shopping(shoppers):
                shoppers.go_on(20)
                proxy.delays(0.6)
                wait_until_sync(lambda: shoppers.answers[-1].seconds > 0.5)
                made.processes["serve"].send_signal(signal.SIGTERM)
                assert made.processes["serve"].wait(15) in {0, -signal.SIGTERM}
    assert shoppers.failures == []
    assert set(shoppers.statuses) == {200}
    assert not any(one.degraded for one in shoppers.answers)


def test_readiness_goes_off_while_requests_are_still_answered(store_settings: StoreSettings, tmp_path: Path) -> None:
    with serving(store_settings, tmp_path, drain_wait=30.0) as made, httpx.Client(base_url=made.url) as client:
        assert client.get("/health/ready").status_code == 200
        made.processes["serve"].send_signal(signal.SIGTERM)
        wait_until_sync(lambda: client.get("/health/ready").status_code == 503)
        assert client.get("/health/live").status_code == 200
        answer = client.get("/recommend", params={"user_id": "u1"})
        assert answer.status_code == 200
        assert answer.headers["connection"] == "close"
        made.processes["serve"].send_signal(signal.SIGTERM)
        assert made.processes["serve"].wait(10) in {0, -signal.SIGTERM}


def test_who_connected_before_the_port_closed_is_answered_though_the_request_comes_late(
    store_settings: StoreSettings, tmp_path: Path
) -> None:
    with serving(store_settings, tmp_path) as made, httpx.Client(base_url=made.url) as client:
        made.processes["serve"].send_signal(signal.SIGTERM)
        wait_until_sync(lambda: client.get("/health/ready").status_code == 503)
        with socket.create_connection(("127.0.0.1", made.port)) as late:
            wait_until_sync(lambda: refuses(made.port))
            assert select.select([late], [], [], 0.8)[0] == [], "closed before its request came"
            late.sendall(b"GET /recommend?user_id=u1 HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert late.recv(1 << 16).startswith(b"HTTP/1.1 200")
        assert made.processes["serve"].wait(10) in {0, -signal.SIGTERM}


def test_who_connects_and_says_nothing_does_not_keep_a_service_from_leaving(
    store_settings: StoreSettings, tmp_path: Path
) -> None:
    with serving(store_settings, tmp_path, drain_wait=0.1) as made, socket.create_connection(("127.0.0.1", made.port)):
        made.processes["serve"].send_signal(signal.SIGTERM)
        assert made.processes["serve"].wait(10) in {0, -signal.SIGTERM}


def test_who_resets_new_connections_does_not_keep_a_service_from_leaving(
    store_settings: StoreSettings, tmp_path: Path
) -> None:
    ended = threading.Event()
    with serving(store_settings, tmp_path) as made:
        threads = [threading.Thread(target=resetting, args=(made.port, ended)) for _ in range(4)]
        for thread in threads:
            thread.start()
        made.processes["serve"].send_signal(signal.SIGTERM)
        try:
            assert made.processes["serve"].wait(10) in {0, -signal.SIGTERM}
        finally:
            ended.set()
            for thread in threads:
                thread.join()


def resetting(port: int, ended: threading.Event) -> None:
    """Connect and reset at once, again and again."""
    while not ended.is_set():
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return True
    return False
