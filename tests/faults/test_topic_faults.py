"""Kafka down: events are refused for now, recommendations do not notice, and nobody needs to restart anything."""

from collections.abc import Iterator
from secrets import token_hex

import httpx
import pytest

from recsys.settings import StoreSettings
from tests.environment.deployment import Deployment, deployed
from tests.environment.fixtures import with_versions
from tests.environment.waiting import wait_until_sync
from tests.faults.conftest import post_event, refused_for_now
from tests.faults.shoppers import Shoppers, shopping
from tests.faults.tcp_proxy import TcpProxy, proxying


@pytest.fixture
def kafka(kafka_bootstrap: str) -> Iterator[TcpProxy]:
    """A proxy as the bootstrap server: the service meets the broker itself only once this has let it through."""
    with proxying(kafka_bootstrap) as proxy:
        yield proxy


@pytest.fixture
def on_kafka(
    kafka: TcpProxy, store_settings: StoreSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    extra = {
        "MILLIREC_TOPIC__BACKEND": "kafka",
        "MILLIREC_TOPIC__NAME": f"faults-{token_hex(6)}",
        "MILLIREC_TOPIC__KAFKA__BOOTSTRAP": f"127.0.0.1:{kafka.port}",
        "MILLIREC_TOPIC__SEND_TIMEOUT": "1.0",
    }
    with deployed(store_settings, tmp_path_factory.mktemp("kafka"), extra) as made:
        yield with_versions(made)


def test_a_topic_that_is_down_refuses_events_and_nothing_else(on_kafka: Deployment, kafka: TcpProxy) -> None:
    kafka.refuses()
    on_kafka.serve()
    with shopping(Shoppers(on_kafka.url, ["u1", "u2"])) as shoppers:
        refused_for_now(post_event(on_kafka))
        kafka.swallows()
        refused_for_now(post_event(on_kafka))
        kafka.answers_garbage()
        refused_for_now(post_event(on_kafka))
        shoppers.go_on(50)
        assert httpx.get(f"{on_kafka.url}/health/ready").status_code == 200
        kafka.passes()
        wait_until_sync(lambda: post_event(on_kafka).status_code == 202, 20.0)
    assert shoppers.failures == []
    assert set(shoppers.statuses) == {200}
