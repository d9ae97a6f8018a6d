"""Tills: clients that report one event after the other, each again and again until it is acknowledged."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

import httpx

from tests.environment.waiting import wait_until_sync


@dataclass
class Till:
    """All events of one user. `acknowledged` are their ids in order, `spooled` how many of them went to the disk."""

    url: str
    user: str
    acknowledged: list[str] = field(default_factory=list)
    spooled: int = 0
    refused: int = 0
    torn: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with httpx.Client(base_url=self.url, timeout=20.0) as client:
            for number in count():
                if self._ended.is_set():
                    return
                event_id = f"{self.user}-{number}"
                while not self._report(client, event_id):
                    self._ended.wait(0.02)

    def end(self) -> None:
        self._ended.set()

    def _report(self, client: httpx.Client, event_id: str) -> bool:
        event = {"event_id": event_id, "user_id": self.user, "item_id": "i1", "type": "view"}
        try:
            response = client.post("/events", json=event)
        except httpx.TransportError:
            self.torn += 1
            return False
        if response.status_code != 202:
            assert response.status_code == 503, response.text
            assert int(response.headers["retry-after"]) >= 1
            self.refused += 1
            return False
        (receipt,) = response.json()["receipts"]
        self.acknowledged.append(receipt["id"])
        self.spooled += receipt.get("spooled", False)
        return True


@dataclass
class Tills:
    tills: list[Till]

    def go_on(self, events: int = 20) -> None:
        """Until each has reported so many more."""
        goals = [(one, len(one.acknowledged) + events) for one in self.tills]
        wait_until_sync(lambda: all(len(one.acknowledged) >= goal for one, goal in goals), 30.0)

    def spool(self, events: int = 20) -> None:
        """Until each had so many more of them spooled."""
        goals = [(one, one.spooled + events) for one in self.tills]
        wait_until_sync(lambda: all(one.spooled >= goal for one, goal in goals), 30.0)


@contextmanager
def reporting(url: str, name: str, users: int = 4) -> Iterator[Tills]:
    """They report for as long as the block lasts, and end with an event that was acknowledged."""
    tills = Tills([Till(url, f"{name}{number}") for number in range(users)])
    threads = [threading.Thread(target=one.run) for one in tills.tills]
    for thread in threads:
        thread.start()
    try:
        yield tills
    finally:
        for one in tills.tills:
            one.end()
        for thread in threads:
            thread.join()
