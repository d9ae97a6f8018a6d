"""Clients that ask and do not read: they cost bounded memory for a bounded time, and nobody's turn but their own."""

import json
import socket
from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest

from recsys.settings import StoreSettings
from tests.attacks.bystanders import bystanders
from tests.attacks.conftest import KEYS, Report, keyed_environment
from tests.attacks.wire import dialled, head, read_answer, read_to_end
from tests.environment.deployment import Deployment, deployed
from tests.environment.fixtures import with_versions
from tests.environment.waiting import wait_until_sync

KEY = KEYS["recommend"]
USERS, PIECES = 1000, 50
WRITE_TIMEOUT = 2.0


@pytest.fixture(scope="module")
def service(module_store: StoreSettings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    extra = {
        **keyed_environment(),
        "MILLIREC_SERVE__WRITE_TIMEOUT": str(WRITE_TIMEOUT),
        # Counted to the end: of what becomes of the answers this is about, not of how many one key may have.
        "MILLIREC_SERVE__MAX_BATCHES": "64",
    }
    with deployed(module_store, tmp_path_factory.mktemp("unread"), extra) as made:
        with_versions(made).serve()
        yield made


def batch(users: int = USERS, k: int = PIECES) -> bytes:
    body = json.dumps({"users": [f"u{number % 40}" for number in range(users)], "k": k}).encode()
    return head("POST", "/recommend/batch", content_length=len(body), x_api_key=KEY) + body


def deaf(connection: socket.socket, room: int = 4096) -> None:
    """The system takes in little that nobody reads."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)


def metric(service: Deployment, series: str) -> float:
    with dialled(service.url, 1) as [connection]:
        connection.sendall(head("GET", "/metrics"))
        lines = read_answer(connection)[2].decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(series))


def cut_off(service: Deployment) -> float:
    return metric(service, 'millirec_connections_ended_total{cause="unread-answer"}')


def test_twelve_clients_that_never_read_their_batches_cost_little_and_are_cut_off(
    service: Deployment, report: Report
) -> None:
    process = psutil.Process(service.processes["serve"].pid)
    before, cut_off_before = process.memory_info().rss, cut_off(service)
    with dialled(service.url, 12) as connections, bystanders(service.url, KEY) as people:
        for connection in connections:
            deaf(connection)
            connection.sendall(batch() * 5)
        people.go_on(100)
        held = process.memory_info().rss - before
        wait_until_sync(lambda: cut_off(service) > cut_off_before, 30.0)
    report(f"12 clients that never read, {held / 1e6:.0f} MB", people)
    assert held < 150_000_000
    assert people.keyed_share >= 0.95


def test_requests_sent_ahead_wait_until_the_answers_are_read(service: Deployment) -> None:
    with dialled(service.url, 1) as [connection]:
        connection.sendall(batch() * 10)
        answers = [read_answer(connection)[0] for _ in range(10)]
    assert set(answers) <= {200, 429, 503}
    assert 200 in answers


def test_small_answers_that_nobody_reads_are_cut_off_too(service: Deployment) -> None:
    process = psutil.Process(service.processes["serve"].pid)
    before = process.num_fds()
    with dialled(service.url, 8) as connections:
        for connection in connections:
            deaf(connection)
            connection.settimeout(0.0)
        wait_until_sync(lambda: process.num_fds() >= before + 8)

        def pressed() -> bool:
            for connection in connections:
                with suppress(BlockingIOError, ConnectionResetError, BrokenPipeError):
                    connection.send(head("GET", "/recommend?user_id=u1&k=40", x_api_key=KEY) * 32)
            return process.num_fds() <= before

        wait_until_sync(pressed, 60.0)


def test_a_slow_reader_gets_all_of_it(service: Deployment) -> None:
    with dialled(service.url, 1) as [connection]:
        deaf(connection, room=65_536)
        connection.sendall(batch())
        status, headers, body = read_answer(connection)
    assert status == 200
    assert len(json.loads(body)["answers"]) == USERS
    assert int(headers["content-length"]) == len(body) > 1_000_000


def test_the_work_of_a_batch_ends_when_its_client_hangs_up(service: Deployment) -> None:
    def gone() -> float:
        return metric(service, 'millirec_requests_total{method="POST",route="/recommend/batch",status="499"}')

    before = gone()

    def hung_up() -> bool:
        with dialled(service.url, 8) as connections:
            for connection in connections:
                connection.sendall(batch())
        return gone() > before

    wait_until_sync(hung_up, 30.0)
    with dialled(service.url, 1) as [connection]:
        connection.sendall(head("GET", "/recommend?user_id=u1", x_api_key=KEY, connection="close"))
        assert read_to_end(connection).startswith(b"HTTP/1.1 200")
