"""A service that starts when everything it needs is away, and one that must end while it waits."""

import time
from pathlib import Path

import pytest

from recsys.stores.model_registry.aliases import promote
from tests.environment.deployment import Deployment
from tests.environment.waiting import wait_until_sync
from tests.faults.conftest import Shop, healthy, without_store
from tests.faults.shoppers import shopping
from tests.faults.tcp_proxy import proxying


def end(deployment: Deployment) -> float:
    """SIGTERM; the seconds it took."""
    began = time.monotonic()
    process = deployment.processes.pop("serve")
    process.terminate()
    assert process.wait(20) in {0, -15}, deployment.output("serve")
    return time.monotonic() - began


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_with_everything_away_a_start_serves_the_version_served_last(open_shop: Shop, workers: int) -> None:
    deployment, aside = open_shop.deployment, open_shop.registry.with_name("aside")
    deployment.serve("--workers", str(workers))
    end(deployment)
    open_shop.proxy.refuses()
    open_shop.registry.rename(aside)
    open_shop.registry.write_text("a file where a folder should be")
    try:
        deployment.serve("--workers", str(workers))
        with shopping(open_shop.shoppers()) as shoppers:
            shoppers.go_on(40)
            assert [answer for answer in shoppers.answers if not without_store(answer)] == []
            assert deployment.recommend("u2")["index_version"] == "first"
            give_back(open_shop, aside)
            shoppers.until(healthy)
            promote(deployment.registry, "second", actor="test", reason="the registry is back")
            wait_until_sync(lambda: deployment.recommend("u2")["index_version"] == "second")
        assert shoppers.failures == []
        assert set(shoppers.statuses) == {200}
    finally:
        give_back(open_shop, aside)
        promote(deployment.registry, "first", actor="test", reason="as it was")
        end(deployment)


def give_back(shop: Shop, aside: Path) -> None:
    """The store, and the registry that was put aside."""
    shop.proxy.passes()
    if aside.exists():
        shop.registry.unlink()
        aside.rename(shop.registry)


@pytest.mark.slow
def test_a_registry_in_a_black_hole_neither_stops_a_start_nor_an_end(open_shop: Shop) -> None:
    deployment = open_shop.deployment
    deployment.serve()
    end(deployment)
    before = dict(deployment.environment)
    with proxying(str(open_shop.store.socket)) as hole:
        hole.swallows()
        deployment.environment |= {
            "MILLIREC_REGISTRY__URL": "s3://bucket/registry",
            "AWS_ENDPOINT": f"https://127.0.0.1:{hole.port}",
            "AWS_REGION": "nowhere",
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
        }
        try:
            deployment.serve()
            assert deployment.recommend("u2")["index_version"] == "first"
            assert end(deployment) < 10
        finally:
            deployment.environment = before
