"""Journey (c): promote and roll back while a client hammers, and journey (e): a corrupted version."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.deployment import Deployment
from tests.versions import publish_small_version
from tests.waiting import wait_until_sync

USERS = [f"u{n}" for n in range(20)]


@dataclass
class Hammer:
    """What clients that never pause got: status codes that are not 200, and (user, version) -> answers."""

    url: str
    failures: list[Any] = field(default_factory=list)
    answers: dict[tuple[str, str], set[bytes]] = field(default_factory=dict)
    count: int = 0

    def run(self, ended: threading.Event, offset: int) -> None:
        with httpx.Client(timeout=10.0) as client:
            place = offset
            while not ended.is_set():
                place += 1
                user = USERS[place % len(USERS)]
                try:
                    response = client.get(f"{self.url}/recommend", params={"user_id": user})
                except httpx.HTTPError as error:
                    self.failures.append(error)
                    continue
                self.count += 1
                if response.status_code != 200:
                    self.failures.append((response.status_code, response.text))
                    continue
                version, items = essence(response)
                self.answers.setdefault((user, version), set()).add(items)

    def go_on(self, requests: int = 100) -> None:
        """Wait until so many more requests were answered."""
        wanted = self.count + requests
        wait_until_sync(lambda: self.count >= wanted, 30.0)


def essence(response: httpx.Response) -> tuple[str, bytes]:
    """The version and the bytes that answer, without the id that every answer has of its own."""
    body = response.json()
    own = f'"recommendation_id":"{body["recommendation_id"]}",'.encode()
    assert own in response.content
    return body["index_version"], response.content.replace(own, b"")


@contextmanager
def hammering(url: str, clients: int = 4) -> Iterator[Hammer]:
    hammer = Hammer(url)
    ended = threading.Event()
    threads = [threading.Thread(target=hammer.run, args=(ended, place * 5)) for place in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield hammer
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def all_answers(deployment: Deployment) -> dict[str, tuple[str, bytes]]:
    return {user: essence(httpx.get(f"{deployment.url}/recommend", params={"user_id": user})) for user in USERS}


def move(deployment: Deployment, path: str) -> None:
    response = httpx.post(f"{deployment.url}/versions/{path}", json={"reason": "journey"}, timeout=30.0)
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("workers", [1, 2])
def test_no_request_fails_and_a_rollback_restores_every_byte(deployment: Deployment, workers: int) -> None:
    deployment.serve("--workers", str(workers))
    before = all_answers(deployment)
    assert {version for version, _ in before.values()} == {"first"}
    with hammering(deployment.url) as hammer:
        hammer.go_on()
        for _ in range(3):
            move(deployment, "second/promote")
            hammer.go_on()
            move(deployment, "rollback")
            hammer.go_on()
    assert hammer.failures == []
    assert {version for _, version in hammer.answers} == {"first", "second"}
    mixed = [key for key, answers in hammer.answers.items() if len(answers) != 1]
    assert mixed == [], "an answer mixed two versions"
    wait_until_sync(lambda: all_answers(deployment) == before, 5.0)


def test_a_version_corrupted_after_publishing_is_refused(deployment: Deployment, tmp_path: Path) -> None:
    publish_small_version(deployment.registry, tmp_path / "built", "broken", seed=9)
    victim = tmp_path / "registry" / "versions" / "broken" / "items.faiss"
    victim.write_bytes(victim.read_bytes()[:-7])
    deployment.serve()
    before = all_answers(deployment)
    with hammering(deployment.url) as hammer:
        move(deployment, "broken/promote")
        wait_until_sync(lambda: "index version refused" in deployment.output("serve"), 10.0)
        hammer.go_on()
    assert hammer.failures == []
    assert all_answers(deployment) == before
    assert 'millirec_index_load_failures_total{reason="corrupt"}' in httpx.get(f"{deployment.url}/metrics").text
