"""`millirec probe freshness` against a deployment of real processes."""

import re
import subprocess
import sys

import httpx
import pytest
import redis

from tests.environment.deployment import Deployment, free_port
from tests.environment.waiting import wait_until_sync


def probe(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "millirec", "probe", "freshness", "--url", url, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("look", [(), ("--answer",)])
def test_it_measures_how_soon_events_show_and_leaves_nobody_behind(
    deployment: Deployment, look: tuple[str, ...]
) -> None:
    deployment.serve()
    deployment.start("features", "consume", "features")
    found = probe(deployment.url, "--probes", "8", *look)
    assert found.returncode == 0, found.stderr
    assert re.search(r"8 *(│ *[\d.]+ *){4}", found.stdout), found.stdout

    strict = probe(deployment.url, "--probes", "2", "--max-p99", "0.01", *look)
    assert strict.returncode == 1
    assert "above 0.01" in strict.stderr


def test_events_without_effect_are_told_and_their_user_deleted_too(deployment: Deployment) -> None:
    deployment.serve()
    nobody_consumes = probe(deployment.url, "--probes", "3", "--timeout", "0.3")
    assert nobody_consumes.returncode == 1
    assert "millirec consume features" in nobody_consumes.stderr
    deployment.start("features", "consume", "features")
    receipt = httpx.post(
        f"{deployment.url}/events", json={"event_id": "e", "user_id": "last", "item_id": "i1", "type": "view"}
    )
    assert receipt.status_code == 202
    user = _probed(deployment)
    wait_until_sync(lambda: httpx.get(f"{deployment.url}/users/last").json()["known"], 60.0)

    def forgotten() -> bool:
        found = httpx.get(f"{deployment.url}/users/{user}").json()
        return bool(found["known"]) and found["interactions"] == []

    wait_until_sync(forgotten, 20.0)


def _probed(deployment: Deployment) -> str:
    """The user the probe made up, as the topic has it."""
    with redis.Redis.from_url(deployment.environment["MILLIREC_STORE__URL"]) as client:
        for partition in range(2):
            stream = f"{deployment.environment['MILLIREC_STORE__PREFIX']}interactions:{partition}"
            for _, fields in client.xrange(stream):
                if fields[b"key"].startswith(b"probe-"):
                    return str(fields[b"key"].decode())
    raise AssertionError("no event of the probe on the topic")


def test_a_service_that_is_not_there_is_named() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    gone = probe(url, "--probes", "1")
    assert gone.returncode == 1
    assert url in gone.stderr.replace("\n", "")
