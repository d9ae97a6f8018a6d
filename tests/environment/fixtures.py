"""Fixtures: deployments of real processes on Streams and, where a test is about events, on Kafka."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import pytest

from recsys.settings import StoreSettings
from recsys.stores.model_registry.aliases import promote
from tests.environment.deployment import Deployment, deployed, free_port
from tests.environment.versions import publish_small_version
from tests.environment.waiting import wait_until_sync


@pytest.fixture
def deployment(store_settings: StoreSettings, tmp_path: Path) -> Iterator[Deployment]:
    """On Streams, with two small versions, the first of them live; no process started yet."""
    with deployed(store_settings, tmp_path) as made:
        yield with_versions(made)


@pytest.fixture(params=["streams", "kafka"])
def any_topic(request: pytest.FixtureRequest, store_settings: StoreSettings, tmp_path: Path) -> Iterator[Deployment]:
    """The same on each topic; Kafka is `TEST_KAFKA_BOOTSTRAP` or a broker from a wheel."""
    extra = on_kafka(request.getfixturevalue("kafka_bootstrap")) if request.param == "kafka" else {}
    with deployed(store_settings, tmp_path, extra) as made:
        yield with_versions(made)


@pytest.fixture(params=["streams", "kafka"])
def topic_that_evicts(
    request: pytest.FixtureRequest, store_settings: StoreSettings, tmp_path: Path
) -> Iterator[Deployment]:
    """The same for tests that kill members of groups: noida-db may wait for one that is gone, Tansu does not."""
    # Not before: a conftest is imported by pytest itself, if it comes to that.
    from tests.contracts.interaction_topic.conftest import running, tansu

    with ExitStack() as stack:
        extra: dict[str, str] = {}
        if request.param == "kafka" and "TEST_KAFKA_BOOTSTRAP" in os.environ:
            extra = on_kafka(os.environ["TEST_KAFKA_BOOTSTRAP"])
        elif request.param == "kafka":
            port = free_port()
            stack.enter_context(running(tansu(port), port, tmp_path / "tansu.out"))
            extra = {
                **on_kafka(f"127.0.0.1:{port}"),
                "MILLIREC_TOPIC__KAFKA__IDEMPOTENT": "false",
                "MILLIREC_TOPIC__KAFKA__SESSION_TIMEOUT": "3",
            }
        with deployed(store_settings, tmp_path, extra) as made:
            yield with_versions(made)


def on_kafka(bootstrap: str) -> dict[str, str]:
    return {
        "MILLIREC_TOPIC__BACKEND": "kafka",
        "MILLIREC_TOPIC__NAME": f"journey-{os.getpid()}-{free_port()}",
        "MILLIREC_TOPIC__KAFKA__BOOTSTRAP": bootstrap,
        "MILLIREC_TOPIC__SEND_TIMEOUT": "10",
    }


def with_versions(made: Deployment) -> Deployment:
    for seed, version in enumerate(("first", "second")):
        publish_small_version(made.registry, made.folder / "built", version, seed)
    promote(made.registry, "first", actor="test", reason="start")
    return made


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory, no_processes_left: None) -> Iterator[str]:
    """A Kafka broker for the session."""
    given = os.environ.get("TEST_KAFKA_BOOTSTRAP")
    if given:
        yield given
        return
    folder = tmp_path_factory.mktemp("kafka")
    port = free_port()
    # The binary itself: the script of that name leaves the server running when it is stopped.
    wheel = find_spec("noida_db")
    assert wheel is not None
    assert wheel.origin is not None
    binary = str(Path(wheel.origin).with_name("noida-db"))
    command = [binary, "start", "--only", "kafka", "--kafka-port", str(port)]
    with (folder / "broker.out").open("wb") as output:
        broker = subprocess.Popen(
            [*command, "--data-dir", str(folder / "data"), "--host", "127.0.0.1"], stdout=output, stderr=output
        )
    try:
        wait_until_sync(lambda: accepts(port), 30.0)
        yield f"127.0.0.1:{port}"
    finally:
        broker.terminate()
        broker.wait(20)


def accepts(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
