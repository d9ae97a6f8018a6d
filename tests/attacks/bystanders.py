"""Clients who do nothing wrong while somebody else attacks, and how they fared."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

import httpx
import numpy as np

from tests.environment.waiting import wait_until_sync

HEALTH = "/health/live"
PATIENCE = 10.0
"""Seconds that a bystander waits for an answer."""


@dataclass
class Bystanders:
    """One client asks for health and one, with a key, for recommendations, each ever `pause` seconds."""

    url: str
    key: str = ""
    path: str = "/recommend?user_id=u3&k=5"
    pause: float = 0.01
    health_seconds: list[float] = field(default_factory=list)
    keyed_seconds: list[float] = field(default_factory=list)
    keyed_failures: list[str] = field(default_factory=list)
    health_failures: list[str] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    @property
    def health_p99_ms(self) -> float:
        return 1000 * float(np.percentile(self.health_seconds or [PATIENCE], 99))

    @property
    def keyed_p50_ms(self) -> float:
        return 1000 * float(np.percentile(self.keyed_seconds or [PATIENCE], 50))

    @property
    def keyed_share(self) -> float:
        """Of the requests with a key, those answered with 200."""
        return len(self.keyed_seconds) / max(1, len(self.keyed_seconds) + len(self.keyed_failures))

    @property
    def health_share(self) -> float:
        """Of the requests for health, those answered with 200."""
        return len(self.health_seconds) / max(1, len(self.health_seconds) + len(self.health_failures))

    def go_on(self, requests: int = 100, timeout: float = 60.0) -> None:
        """Wait until so many more requests of each kind have ended, well or not."""
        health, keyed = self._ends()
        wait_until_sync(lambda: self._ends()[0] >= health + requests and self._ends()[1] >= keyed + requests, timeout)

    def end(self) -> None:
        self._ended.set()

    def ask(self, path: str, headers: dict[str, str], seconds: list[float], failures: list[str]) -> None:
        """GET `path` until the end, on one connection for as long as it holds."""
        with httpx.Client(base_url=self.url, headers=headers, timeout=PATIENCE) as client:
            while not self._ended.wait(self.pause):
                began = perf_counter()
                try:
                    status = client.get(path).status_code
                except httpx.HTTPError as error:
                    failures.append(repr(error))
                    continue
                if status == 200:
                    seconds.append(perf_counter() - began)
                else:
                    failures.append(str(status))

    def threads(self) -> list[threading.Thread]:
        keyed = {"X-API-Key": self.key} if self.key else {}
        return [
            threading.Thread(target=self.ask, args=(HEALTH, {}, self.health_seconds, self.health_failures)),
            threading.Thread(target=self.ask, args=(self.path, keyed, self.keyed_seconds, self.keyed_failures)),
        ]

    def _ends(self) -> tuple[int, int]:
        return (
            len(self.health_seconds) + len(self.health_failures),
            len(self.keyed_seconds) + len(self.keyed_failures),
        )


@contextmanager
def bystanders(url: str, key: str = "", path: str = "/recommend?user_id=u3&k=5") -> Iterator[Bystanders]:
    """Bystanders who ask until the block ends."""
    people = Bystanders(url, key, path)
    threads = people.threads()
    for thread in threads:
        thread.start()
    try:
        yield people
    finally:
        people.end()
        for thread in threads:
            thread.join()
