"""What the service says about itself costs others nothing, however often somebody asks."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from json import loads

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from recsys.settings import StoreSettings
from tests.attacks.bystanders import bystanders
from tests.attacks.conftest import KEYS, Report, keyed_environment
from tests.environment.deployment import Deployment, deployed
from tests.environment.fixtures import with_versions
from tests.environment.waiting import wait_until_sync

DOCUMENTS = ("/openapi.json", "/asyncapi.json", "/metrics", "/docs", "/docs/swagger-ui-bundle.js")
CROWD = 16
"""Clients who ask for the same document again and again."""


@pytest.fixture(scope="module", params=["1", "2"], ids=["one worker", "two workers"])
def service(
    request: pytest.FixtureRequest, valkey_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    store = StoreSettings(url=SecretStr(valkey_url), prefix="flooded:", read_timeout=2.0, timeout=10.0)
    with deployed(store, tmp_path_factory.mktemp("flooded"), keyed_environment()) as made:
        with_versions(made).serve("--workers", request.param)
        yield made


@contextmanager
def crowd(service: Deployment, path: str) -> Iterator[dict[str, int]]:
    """A crowd without a key asks for `path` until the block ends; then, how many got which status."""
    command = [sys.executable, "-m", "tests.attacks.crowd", "127.0.0.1", str(service.port), path, str(CROWD)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    statuses: dict[str, int] = {}
    try:
        yield statuses
    finally:
        output, _ = process.communicate("", timeout=30)
        statuses.update(loads(output))
    assert process.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("path", DOCUMENTS)
def test_a_flood_of_readers_keeps_nobody_waiting(
    service: Deployment, path: str, report: Report, request: pytest.FixtureRequest
) -> None:
    with bystanders(service.url, KEYS["recommend"]) as people, crowd(service, path) as statuses:
        people.go_on(200)
    report(f"{path} {sum(statuses.values())} times, {request.node.callspec.id.split('-')[0]}", people)
    assert set(statuses) <= {"200", "503"}
    assert statuses["200"] > 0
    assert people.keyed_share >= 0.95


@pytest.mark.parametrize("path", DOCUMENTS)
def test_a_document_is_not_sent_to_who_has_it(service: Deployment, path: str) -> None:
    first = httpx.get(f"{service.url}{path}")
    assert first.status_code == 200

    def has_it() -> bool:
        tag = httpx.get(f"{service.url}{path}").headers["ETag"]
        second = httpx.get(f"{service.url}{path}", headers={"If-None-Match": f'"other", W/{tag}'})
        # The text of the metrics may have changed in between.
        return second.status_code == 304 and second.content == b""

    wait_until_sync(has_it, 20.0)
    changed = httpx.get(f"{service.url}{path}", headers={"If-None-Match": '"another"'})
    assert changed.status_code == 200
    assert httpx.head(f"{service.url}{path}").status_code == 200
    refused = httpx.post(f"{service.url}{path}", json={})
    assert refused.status_code == 405
    assert refused.headers["Allow"] == "GET, HEAD"


def test_metrics_are_made_once_a_second_and_do_not_grow_old(service: Deployment) -> None:
    def answered() -> float:
        families = text_string_to_metric_families(httpx.get(f"{service.url}/metrics").text)
        samples = [sample for family in families if family.name == "millirec_requests" for sample in family.samples]
        return sum(one.value for one in samples if one.labels["route"] == "/popular" and one.labels["status"] == "200")

    earlier = answered()
    popular = httpx.get(f"{service.url}/popular", headers={"X-API-Key": KEYS["recommend"]})
    assert popular.status_code == 200
    wait_until_sync(lambda: answered() > earlier, 10.0)
