"""The topic goes, and so does the service: every acknowledged event is in the log once, in the order of its user."""

import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx
import polars as pl
import psutil
import pytest
from pydantic import SecretStr

from recsys.settings import LogSettings, StoreSettings
from recsys.stores.event_log import open_interaction_log
from tests.contracts.interaction_topic.conftest import noida
from tests.environment.deployment import Deployment, deployed, free_port
from tests.environment.fixtures import with_versions
from tests.environment.waiting import wait_until_sync
from tests.faults.conftest import Store, opened_store
from tests.faults.tcp_proxy import TcpProxy, proxying
from tests.faults.tills import Tills, reporting

LIMIT = 262_144


@dataclass
class Market:
    """The service with a spool, the consumer of the log, and what lies between them and the topic."""

    deployment: Deployment
    proxy: TcpProxy
    store: Store

    @property
    def spool(self) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self.deployment.url}/health/ready", timeout=10.0).json()["spool"]
        return found

    def logged(self, name: str) -> pl.DataFrame:
        """Events of the users of one test, in the order of the topic."""
        log = open_interaction_log(LogSettings(path=str(self.deployment.folder / "log")))
        rows = log.read().select("user_id", "event_id", "offset").filter(pl.col("user_id").str.starts_with(name))
        return rows.sort("offset").collect()

    def check(self, name: str, tills: Tills) -> None:
        """Each event is delivered once, in the order of its user, and the spool is gone."""
        assert self.delivered(name, tills) == {one.user: one.acknowledged for one in tills.tills}
        wait_until_sync(lambda: list((self.deployment.folder / "spool").glob("*")) == [])

    def delivered(self, name: str, tills: Tills) -> dict[str, list[str]]:
        """Return each user's events in the log, in the order of the topic, once it has as many as were acknowledged."""
        total = sum(len(one.acknowledged) for one in tills.tills)
        wait_until_sync(lambda: len(self.logged(name)) >= total, 30.0)
        rows = self.logged(name)
        return {one.user: rows.filter(user_id=one.user)["event_id"].to_list() for one in tills.tills}


@contextmanager
def opened_market(place: Path, *serve: str, **more: str) -> Iterator[Market]:
    extra = {
        "MILLIREC_TOPIC__SEND_TIMEOUT": "0.5",
        "MILLIREC_STORE__TIMEOUT": "0.5",
        "MILLIREC_SERVE__SPOOL": str(place / "spool"),
        "MILLIREC_SERVE__SPOOL_LIMIT": str(LIMIT),
        **more,
    }
    with (
        tempfile.TemporaryDirectory(prefix="millirec-") as folder,
        opened_store(Path(folder)) as store,
        proxying(str(store.socket)) as proxy,
    ):
        url = SecretStr(f"redis://127.0.0.1:{proxy.port}")
        with deployed(StoreSettings(url=url, prefix=f"test-{token_hex(6)}:"), place, extra) as deployment:
            deployment.start("log", "consume", "log")
            with_versions(deployment).serve(*serve)
            yield Market(deployment, proxy, store)


@pytest.fixture(scope="module")
def market(no_processes_left: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    with opened_market(tmp_path_factory.mktemp("market")) as opened:
        yield opened


def kill_store(market: Market) -> None:
    market.store.kill()


def start_store(market: Market) -> None:
    market.store.start()


OUTAGES: dict[str, tuple[Callable[[Market], None], Callable[[Market], None]]] = {
    "refused": (lambda market: market.proxy.refuses(), lambda market: market.proxy.passes()),
    "blackholed": (lambda market: market.proxy.swallows(), lambda market: market.proxy.passes()),
    "killed": (kill_store, start_store),
}


@pytest.mark.parametrize("outage", OUTAGES)
def test_events_are_taken_while_the_topic_is_down_and_each_reaches_the_log_once(market: Market, outage: str) -> None:
    begins, ends = OUTAGES[outage]
    with reporting(market.deployment.url, outage) as tills:
        tills.go_on()
        begins(market)
        tills.spool()
        wait_until_sync(lambda: market.spool["messages"] > 0)
        assert market.spool["bytes"] > 0
        ends(market)
        wait_until_sync(lambda: market.spool["messages"] == 0, 20.0)
        tills.go_on()
    market.check(outage, tills)


def test_a_service_killed_with_a_full_hand_loses_nothing_and_repeats_nothing(market: Market) -> None:
    with reporting(market.deployment.url, "hand") as tills:
        market.proxy.refuses()
        tills.spool()
        market.deployment.kill("serve")
        market.proxy.passes()
        market.deployment.serve()
        tills.go_on()
    assert sum(one.torn for one in tills.tills) > 0
    market.check("hand", tills)


@pytest.mark.slow
def test_a_service_killed_while_it_replays_repeats_nothing_that_counts(market: Market) -> None:
    with reporting(market.deployment.url, "replay", users=2) as tills:
        market.proxy.refuses()
        tills.spool(100)
        market.proxy.passes()
        wait_until_sync(lambda: market.logged("replay").height > 0)
        market.deployment.kill("serve")
        market.deployment.serve()
        tills.go_on()
    market.check("replay", tills)


@pytest.mark.slow
def test_a_service_that_ends_in_peace_leaves_its_spool_to_the_next(market: Market) -> None:
    with reporting(market.deployment.url, "peace") as tills:
        market.proxy.refuses()
        tills.spool()
        process = market.deployment.processes["serve"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) in {0, -signal.SIGTERM}
        market.deployment.serve()
        tills.spool(1)
        market.proxy.passes()
        tills.go_on()
    market.check("peace", tills)


def test_a_full_spool_says_when_to_come_back_and_then_takes_it(market: Market) -> None:
    def post(place: int) -> httpx.Response:
        events = [
            {"event_id": f"full-{place}-{n}", "user_id": f"full{n % 9}", "item_id": "i1", "type": "view"}
            for n in range(100)
        ]
        return httpx.post(f"{market.deployment.url}/events", json={"events": events}, timeout=10.0)

    market.proxy.refuses()
    place = 0
    while (response := post(place)).status_code == 202:
        place += 1
    assert place > 3
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) == 5
    assert market.spool["bytes"] <= LIMIT
    market.proxy.passes()
    wait_until_sync(lambda: post(place).status_code == 202, 20.0)
    wait_until_sync(lambda: len(market.logged("full")) >= 100 * (place + 1), 30.0)
    ids = market.logged("full")["event_id"].to_list()
    assert sorted(ids) == sorted(f"full-{batch}-{n}" for batch in range(place + 1) for n in range(100))


@pytest.mark.slow
def test_a_worker_that_is_killed_leaves_its_spool_to_the_others(tmp_path: Path) -> None:
    with opened_market(tmp_path, "--workers", "2") as market:
        with reporting(market.deployment.url, "worker", 8) as tills:
            market.proxy.refuses()
            tills.spool()
            family = psutil.Process(market.deployment.processes["serve"].pid).children()
            workers = [one for one in family if "spawn_main" in " ".join(one.cmdline())]
            assert len(workers) == 2
            workers[0].kill()
            tills.spool()
            market.proxy.passes()
            tills.go_on()
        # A till that had to change its worker has no order between the two.
        delivered = {user: sorted(ids) for user, ids in market.delivered("worker", tills).items()}
        assert delivered == {one.user: sorted(one.acknowledged) for one in tills.tills}
        wait_until_sync(lambda: list((tmp_path / "spool").glob("*")) == [])


@pytest.mark.slow
def test_a_broker_of_kafka_that_hangs_delays_events_and_loses_none(tmp_path: Path) -> None:
    with own_broker(tmp_path) as (broker, bootstrap):
        kafka = {"BACKEND": "kafka", "NAME": f"spool-{token_hex(6)}", "KAFKA__BOOTSTRAP": bootstrap}
        with opened_market(tmp_path, **{f"MILLIREC_TOPIC__{name}": value for name, value in kafka.items()}) as market:
            with reporting(market.deployment.url, "broker") as tills:
                tills.go_on()
                broker.send_signal(signal.SIGSTOP)
                tills.spool()
                broker.send_signal(signal.SIGCONT)
                wait_until_sync(lambda: market.spool["messages"] == 0, 30.0)
                tills.go_on()
            market.check("broker", tills)


@contextmanager
def own_broker(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """One that a test may stop; it does not keep what it acknowledged through a kill -9, so none is sent."""
    port = free_port()
    with (folder / "broker.out").open("wb") as output:
        broker = subprocess.Popen(noida(port, folder), stdout=output, stderr=output)
    try:
        wait_until_sync(lambda: answers(port), 30.0)
        yield broker, f"127.0.0.1:{port}"
    finally:
        broker.kill()
        broker.wait()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
