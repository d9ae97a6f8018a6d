"""Whatever becomes of the store, every customer is answered, and the answer says what it was made of.

How long it took is logged: `--log-cli-level=INFO` shows it.
"""

import logging
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.environment.waiting import wait_until_sync
from tests.faults.conftest import HEALTHY, Shop, Store, healthy, post_event, refused_for_now, without_store
from tests.faults.shoppers import Reply, Shoppers, latency, shopping
from tests.faults.tcp_proxy import TcpProxy

log = logging.getLogger(__name__)
DURING = 100
"""Requests while the fault lasts."""

Fault = Callable[[TcpProxy, Store], None]


@contextmanager
def nobody_is_turned_away(shop: Shop, name: str) -> Iterator[Shoppers]:
    """Shoppers who were served before; afterwards no answer but 200, and no connection that failed."""
    with shopping(shop.shoppers()) as shoppers:
        shoppers.until(healthy)
        before = shoppers.go_on(50)
        yield shoppers
    log.info("%s: before: %s", name, latency(before))
    assert shoppers.failures == []
    assert shoppers.refused == 0
    assert set(shoppers.statuses) == {200}


def recovered(shoppers: Shoppers, name: str) -> None:
    """They are served as before, without anybody's help."""
    log.info("%s: recovered in %.2f s", name, shoppers.until(healthy))


def break_and_mend(shop: Shop, name: str, fault: Fault, mend: Fault, requests: int = DURING) -> list[Reply]:
    """The answers while it was broken, from when it showed."""
    with nobody_is_turned_away(shop, name) as shoppers:
        fault(shop.proxy, shop.store)
        shoppers.until(without_store)
        during = shoppers.go_on(requests)
        mend(shop.proxy, shop.store)
        recovered(shoppers, name)
    log.info("%s: during: %s", name, latency(during))
    return during


NETWORK: dict[str, Fault] = {
    "a second late": lambda proxy, _: proxy.delays(1.0),
    "black hole": lambda proxy, _: proxy.swallows(),
    "refused": lambda proxy, _: proxy.refuses(),
    "garbage": lambda proxy, _: proxy.answers_garbage(),
}


@pytest.mark.parametrize("fault", NETWORK)
def test_a_network_that_fails_degrades_every_answer_and_loses_none(shop: Shop, fault: str) -> None:
    during = break_and_mend(shop, fault, NETWORK[fault], lambda proxy, _: proxy.passes())
    assert all(map(without_store, during))


def test_a_store_that_stops_and_goes_on_is_noticed_both_times(shop: Shop) -> None:
    during = break_and_mend(
        shop,
        "SIGSTOP",
        lambda _, store: store.signal(signal.SIGSTOP),
        lambda _, store: store.signal(signal.SIGCONT),
    )
    assert all(map(without_store, during))


def test_a_store_that_is_killed_and_started_again_serves_what_it_knew(shop: Shop) -> None:
    during = break_and_mend(shop, "kill -9", lambda _, store: store.kill(), lambda _, store: store.start())
    assert all(map(without_store, during))


def test_a_batch_is_in_no_hurry_and_waits_for_a_slow_store(shop: Shop) -> None:
    body = {"users": list(HEALTHY), "k": 3}
    shop.proxy.delays(0.2)
    try:
        answer = httpx.post(f"{shop.deployment.url}/recommend/batch", json=body, timeout=10.0).json()
    finally:
        shop.proxy.passes()
    assert not answer["degraded"]
    assert [one["fallback_level"] for one in answer["answers"]] == list(HEALTHY.values())


def test_connections_that_are_cut_cost_nobody_an_answer(shop: Shop) -> None:
    with nobody_is_turned_away(shop, "cut") as shoppers:
        for _ in range(5):
            shop.proxy.cuts()
            shoppers.go_on(20)
        recovered(shoppers, "cut")
    assert all(healthy(one) or without_store(one) for one in shoppers.answers)


def test_a_network_that_comes_and_goes_costs_nobody_an_answer(shop: Shop) -> None:
    with nobody_is_turned_away(shop, "flapping") as shoppers:
        shop.proxy.flaps(0.2)
        shoppers.until(without_store)
        events = {post_event(shop.deployment).status_code for _ in range(100)}
        shoppers.go_on(2 * DURING)
        shop.proxy.passes()
        recovered(shoppers, "flapping")
    assert events <= {202, 503}
    assert all(healthy(one) or without_store(one) for one in shoppers.answers)


def test_a_store_out_of_memory_takes_no_events_and_answers_everybody(shop: Shop) -> None:
    with nobody_is_turned_away(shop, "out of memory") as shoppers, shop.store.client as client:
        client.config_set("maxmemory", 1)
        try:
            refused_for_now(post_event(shop.deployment))
            shoppers.go_on(50)
            shoppers.until(healthy)
        finally:
            client.config_set("maxmemory", 0)
        wait_until_sync(lambda: post_event(shop.deployment).status_code == 202)


def test_the_registry_gone_is_nothing_to_those_who_are_served(shop: Shop) -> None:
    aside = shop.registry.with_name("aside")
    with nobody_is_turned_away(shop, "registry gone") as shoppers:
        shop.registry.rename(aside)
        shop.registry.write_text("a file where a folder should be")
        wait_until_sync(lambda: "registry cannot be read" in shop.deployment.output("serve"))
        shoppers.go_on(50)
        shoppers.until(healthy)
        shop.registry.unlink()
        aside.rename(shop.registry)


def test_everything_at_once_is_survived(shop: Shop) -> None:
    aside = shop.registry.with_name("aside")

    def fail(proxy: TcpProxy, store: Store) -> None:
        shop.registry.rename(aside)
        store.kill()
        proxy.swallows()

    def mend(proxy: TcpProxy, store: Store) -> None:
        refused_for_now(post_event(shop.deployment))
        aside.rename(shop.registry)
        store.start()
        proxy.passes()

    during = break_and_mend(shop, "everything", fail, mend)
    assert all(map(without_store, during))
    wait_until_sync(lambda: post_event(shop.deployment).status_code == 202)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [*NETWORK, "SIGSTOP"])
def test_an_outage_of_half_a_minute_ends_as_a_short_one_does(shop: Shop, fault: str) -> None:
    with nobody_is_turned_away(shop, f"half a minute of {fault}") as shoppers:
        if fault in NETWORK:
            NETWORK[fault](shop.proxy, shop.store)
        else:
            shop.store.signal(signal.SIGSTOP)
        shoppers.until(without_store)
        start, ends = len(shoppers.answers), time.monotonic() + 30
        wait_until_sync(lambda: time.monotonic() > ends, 40.0)
        during = shoppers.answers[start:]
        shop.store.signal(signal.SIGCONT)
        shop.proxy.passes()
        recovered(shoppers, fault)
    log.info("%s: during: %s", fault, latency(during))
    assert all(map(without_store, during))
