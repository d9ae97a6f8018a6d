"""Producers that never stop: some send everything twice, some give up at the first refusal."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from random import Random

import httpx

from tests.chaos.invariants import Ledger

TYPES = ("view", "view", "view", "click", "impression", "add_to_cart", "purchase")
ITEMS = 40
TIMEOUT = 3.0
AGAIN = 0.05


@dataclass
class Till:
    """One producer with users of its own. What it sends is a function of its name, its start and a number."""

    name: str
    url: str
    start: datetime
    users: int
    batch: int
    pause: float
    open: threading.Event
    twice: bool = False
    careless: bool = False
    acknowledged: set[str] = field(default_factory=set)
    doubtful: set[str] = field(default_factory=set)
    moments: list[float] = field(default_factory=list)
    """When it was acknowledged something."""
    ended: threading.Event = field(default_factory=threading.Event)
    failure: BaseException | None = None

    def run(self) -> None:
        try:
            with httpx.Client(base_url=self.url, timeout=TIMEOUT) as client:
                for number in count():
                    if self.ended.wait(self.pause):
                        return
                    self.report(client, number)
        except BaseException as failure:
            self.failure = failure
            raise

    def report(self, client: httpx.Client, number: int) -> None:
        events = [self._event(number * self.batch + place) for place in range(self.batch)]
        ids = {str(event["event_id"]) for event in events}
        self.doubtful |= ids
        for _ in range(2 if self.twice else 1):
            # Whoever is careful goes on until it is told, even after the end.
            while not self._accepted(client, events):
                time.sleep(AGAIN)
                if self.careless:
                    return
        self.doubtful -= ids
        self.acknowledged |= ids
        self.moments.append(time.monotonic())

    def _accepted(self, client: httpx.Client, events: list[dict[str, object]]) -> bool:
        self.open.wait()
        try:
            response = client.post("/events", json={"events": events})
        except httpx.TransportError:
            return False
        assert response.status_code in {202, 503}, response.text
        return response.status_code == 202

    def _event(self, number: int) -> dict[str, object]:
        random = Random(f"{self.name}-{number}")
        at = self.start + timedelta(milliseconds=number if random.random() < 0.9 else random.randrange(number + 1))
        return {
            "event_id": f"{self.name}-{number}",
            "user_id": f"{self.name}-user-{number % self.users}",
            "item_id": f"i{random.randrange(ITEMS)}",
            "type": random.choice(TYPES),
            "occurred_at": at.isoformat(),
        }


@dataclass
class Traffic:
    tills: list[Till]
    open: threading.Event

    @contextmanager
    def hushed(self) -> Iterator[None]:
        """Stop all producers during the block; requests sent before are answered when it begins."""
        self.open.clear()
        time.sleep(TIMEOUT)
        try:
            yield
        finally:
            self.open.set()

    @property
    def acknowledged(self) -> int:
        return sum(len(one.acknowledged) for one in self.tills)

    @property
    def ledger(self) -> Ledger:
        return Ledger(
            frozenset().union(*(one.acknowledged for one in self.tills)),
            frozenset().union(*(one.doubtful for one in self.tills)),
        )

    def check(self) -> None:
        for one in self.tills:
            if one.failure is not None:
                raise one.failure

    def longest_stall(self) -> float:
        """Seconds in which nobody was acknowledged anything."""
        moments = sorted(moment for one in self.tills for moment in one.moments)
        return max((later - earlier for earlier, later in pairwise(moments)), default=0.0)

    def probe(self, name: str) -> "Probe":
        """A further producer, with a user of its own, for whoever calls it."""
        first = self.tills[0]
        till = Till(name, first.url, first.start, users=1, batch=1, pause=0.0, open=self.open)
        self.tills.append(till)
        return Probe(till)


@dataclass
class Probe:
    """Sends one event at a time."""

    till: Till
    sent: int = 0

    def sell(self) -> str:
        """The event's id, once it is acknowledged."""
        with httpx.Client(base_url=self.till.url, timeout=TIMEOUT) as client:
            self.till.report(client, self.sent)
        self.sent += 1
        return f"{self.till.name}-{self.sent - 1}"

    def event(self) -> tuple[str, bytes]:
        """The id and the content of an event that somebody else is to send."""
        event = self.till._event(self.sent)
        self.sent += 1
        return str(event["event_id"]), json.dumps({"kind": "interaction", **event}).encode()

    @property
    def user(self) -> str:
        return f"{self.till.name}-user-0"


@contextmanager
def selling(url: str, users: int, batch: int, pause: float) -> Iterator[Traffic]:
    """Four producers for as long as the block lasts: careful, twice over, careless, and both of these."""
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)
    gate = threading.Event()
    gate.set()
    ways = [(False, False), (True, False), (False, True), (True, True)]
    tills = [Till(f"till{place}", url, start, users, batch, pause, gate, *way) for place, way in enumerate(ways)]
    traffic = Traffic(tills, gate)
    threads = [threading.Thread(target=one.run) for one in traffic.tills]
    for thread in threads:
        thread.start()
    try:
        yield traffic
    finally:
        for one in traffic.tills:
            one.ended.set()
        for thread in threads:
            thread.join()
    traffic.check()
