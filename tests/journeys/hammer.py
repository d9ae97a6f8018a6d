"""Clients that never pause, and what they got."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from time import time
from typing import Any

import httpx

from tests.environment.deployment import Deployment
from tests.environment.waiting import wait_until_sync

USERS = [f"u{n}" for n in range(20)]
CONNECTION = 25
"""Requests per connection: each is one worker's, and all workers are to be asked."""


@dataclass
class Hammer:
    """Status codes that are not 200, (user, version) -> answers, and when each version answered last."""

    url: str
    key: str = ""
    failures: list[Any] = field(default_factory=list)
    answers: dict[tuple[str, str], set[bytes]] = field(default_factory=dict)
    last: dict[str, tuple[int, float]] = field(default_factory=dict)
    answered: int = 0

    def run(self, ended: threading.Event, offset: int) -> None:
        with httpx.Client(timeout=10.0, headers={"X-API-Key": self.key}) as client:
            for place in count(offset):
                if ended.is_set():
                    return
                self._ask(client, USERS[place % len(USERS)], last=place % CONNECTION == 0)

    def _ask(self, client: httpx.Client, user: str, *, last: bool) -> None:
        headers = {"Connection": "close"} if last else {}
        try:
            response = client.get(f"{self.url}/recommend", params={"user_id": user}, headers=headers)
        except httpx.HTTPError as error:
            self.failures.append(error)
            return
        self.answered += 1
        if response.status_code != 200:
            self.failures.append((response.status_code, response.text))
            return
        version, items = essence(response)
        self.last[version] = self.answered, time()
        self.answers.setdefault((user, version), set()).add(items)

    def go_on(self, requests: int = 100) -> None:
        """Wait until so many more requests were answered."""
        wanted = self.answered + requests
        wait_until_sync(lambda: self.answered >= wanted, 30.0)

    def settle_on(self, version: str, requests: int = 200) -> None:
        """Wait until so many answers in a row were of `version`."""

        def settled() -> bool:
            others = [place for name, (place, _) in self.last.items() if name != version]
            return version in self.last and self.answered - max(others, default=0) >= requests

        wait_until_sync(settled, 30.0)


def essence(response: httpx.Response) -> tuple[str, bytes]:
    """The version and the bytes that answer, without the id that every answer has of its own."""
    body = response.json()
    own = f'"recommendation_id":"{body["recommendation_id"]}",'.encode()
    assert own in response.content
    return body["index_version"], response.content.replace(own, b"")


@contextmanager
def hammering(url: str, clients: int = 4, key: str = "") -> Iterator[Hammer]:
    hammer = Hammer(url, key)
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
