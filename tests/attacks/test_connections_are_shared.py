"""Connections are shared among keys: whoever holds more than a share makes room when others need some."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from app.server.connections import Connections
from app.server.limits import SPARE, Limits
from recsys.settings import StoreSettings
from tests.attacks.bystanders import bystanders
from tests.attacks.conftest import KEYS, Report, keyed_environment
from tests.attacks.wire import dial, head, read_answer, read_to_end, status_of
from tests.environment.deployment import Deployment, deployed
from tests.environment.fixtures import with_versions

ROOM = 64
"""Connections of the service."""
LIVE = head("GET", "/health/live")
KEYED = head("GET", "/recommend?user_id=u1&k=1", x_api_key=KEYS["recommend"])
HELD = {
    **keyed_environment(),
    "MILLIREC_SERVE__MAX_CONNECTIONS": str(ROOM),
    "MILLIREC_SERVE__BODY_TIMEOUT": "60",
    "MILLIREC_SERVE__WRITE_TIMEOUT": "60",
}
"""Time to look at connections that are held."""


@pytest.fixture(scope="module")
def service(module_store: StoreSettings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployed(module_store, tmp_path_factory.mktemp("shared"), HELD) as made:
        with_versions(made).serve()
        yield made


def half_a_body(key: str) -> bytes:
    """The head of a request for which this key suffices, and the first byte of its body."""
    path = {"events": "/events", "users": "/users/u1/merge", "admin": "/recommend/preview"}[key]
    return head("POST", path, content_length=100, x_api_key=KEYS[key]) + b"{"


def held(url: str, stack: ExitStack, sent: bytes) -> socket.socket:
    """A connection on which the service waits for its client."""
    connection = stack.enter_context(dial(url))
    connection.sendall(sent)
    return connection


def fresh(url: str, request: bytes) -> int:
    """The status of the answer on a new connection."""
    with dial(url) as connection:
        connection.sendall(request)
        return read_answer(connection)[0]


@pytest.mark.parametrize("keys", [["events"], ["events", "users", "admin"]])
def test_keys_that_hold_every_connection_with_half_sent_bodies_shut_nobody_out(
    service: Deployment, report: Report, keys: list[str]
) -> None:
    with ExitStack() as stack:
        holding = [held(service.url, stack, half_a_body(keys[number % len(keys)])) for number in range(2 * ROOM)]
        statuses = []
        for number in range(100):
            held(service.url, stack, half_a_body(keys[number % len(keys)]))
            statuses += [fresh(service.url, KEYED), fresh(service.url, LIVE)]
        with bystanders(service.url, KEYS["recommend"]) as people:
            for number in range(ROOM):
                held(service.url, stack, half_a_body(keys[number % len(keys)]))
            people.go_on(100)
        report(f"half-sent bodies on all connections, {len(keys)} keys", people)
        assert statuses == [200] * len(statuses)
        assert people.keyed_share >= 0.95
        assert people.health_share >= 0.95
        assert status_of(read_to_end(holding[0])) == 408


@dataclass(eq=False)
class Client:
    """A connection that is at work unless it waits for its client, who may be a caller."""

    waiting: bool = False
    holder: str = ""
    served: bool = True
    since: float = 0.0
    ended: str = ""

    def look(self, now_seconds: float, patience: float) -> int:
        return int(now_seconds - patience > self.since)

    def end(self, cause: str) -> None:
        self.ended = cause


def entered(*clients: Client) -> Connections:
    """As many connections as there may be."""
    connections = Connections(Limits(connections=len(clients)))
    for client in clients:
        assert connections.enter(client)
    return connections


async def test_when_all_are_at_work_only_health_is_let_in_and_not_without_end() -> None:
    connections = entered(*(Client() for _ in range(8)))
    assert [connections.enter(Client()) for _ in range(SPARE + 1)] == [None] * SPARE + [False]


async def test_whoever_holds_most_makes_room_and_the_oldest_first() -> None:
    hog = [Client(holder="hog", since=float(number)) for number in range(6)]
    shop, worker = Client(holder="shop"), Client()
    connections = entered(*reversed(hog), shop, worker)
    for client in hog[:4]:
        assert connections.enter(Client()) is True
        assert client.ended == "no-room"
    assert not any(client.ended for client in (*hog[4:], shop, worker)), "they are within their share, or at work"


async def test_the_idle_make_room_ahead_of_those_who_send() -> None:
    sending = [Client(holder="shop", since=float(number)) for number in range(3)]
    idle, silent = Client(waiting=True, since=5.0), Client(waiting=True, served=False, since=9.0)
    connections = entered(*sending, idle, silent)
    for client in (silent, idle, sending[0]):
        assert connections.enter(Client()) is True
        assert client.ended == "no-room"
