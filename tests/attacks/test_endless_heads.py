"""Heads without an end and all that is almost HTTP: refused early, in good form, and without a flood of log."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from threading import Event, Thread

import httpx
import psutil
import pytest

from recsys.settings import StoreSettings
from tests.attacks.bystanders import bystanders
from tests.attacks.conftest import KEYS, Report, keyed_environment
from tests.attacks.wire import dial, dialled, head, read_answer, read_to_end, status_of
from tests.environment.deployment import Deployment, deployed
from tests.environment.fixtures import with_versions
from tests.environment.waiting import wait_until_sync

LIMIT = 32_768
LIVE = head("GET", "/health/live")
KEY = KEYS["recommend"]


@pytest.fixture(scope="module")
def service(module_store: StoreSettings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    extra = {**keyed_environment(), "MILLIREC_SERVE__HEAD_TIMEOUT": "2", "MILLIREC_SERVE__BODY_TIMEOUT": "5"}
    with deployed(module_store, tmp_path_factory.mktemp("heads"), extra) as made:
        with_versions(made).serve()
        yield made


def answer_to(service: Deployment, *pieces: bytes) -> bytes:
    """All that comes back until the end of the connection; what cannot be sent any more is not."""
    with dial(service.url) as connection:
        with suppress(ConnectionResetError, BrokenPipeError):
            for piece in pieces:
                connection.sendall(piece)
        return read_to_end(connection)


def refused(answer: bytes, status: int) -> bool:
    lines = answer.lower().split(b"\r\n")
    return status_of(answer) == status and {b"connection: close", b"content-type: application/problem+json"} <= {*lines}


def test_an_endless_header_is_431_and_costs_neither_memory_nor_the_time_of_anybody(
    service: Deployment, report: Report
) -> None:
    process = psutil.Process(service.processes["serve"].pid)
    before, ended = process.memory_info().rss, Event()

    def attack() -> None:
        while not ended.is_set():
            answer_to(service, b"GET / HTTP/1.1\r\nx: ", *[b"y" * 262_144] * 64)

    attackers = [Thread(target=attack) for _ in range(4)]
    with bystanders(service.url, KEY) as people:
        for attacker in attackers:
            attacker.start()
        people.go_on(100)
        ended.set()
        for attacker in attackers:
            attacker.join()
    report("four endless headers at a time", people)
    assert people.keyed_share >= 0.95
    assert process.memory_info().rss - before < 50_000_000
    assert refused(answer_to(service, b"GET / HTTP/1.1\r\nx: ", b"y" * 3 * LIMIT), 431)


@pytest.mark.parametrize("size", [1, 100, LIMIT // 2])
def test_however_small_the_pieces_a_head_has_its_limit(service: Deployment, size: int) -> None:
    with dial(service.url) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(b"GET / HTTP/1.1\r\nx: ")
        with suppress(ConnectionResetError, BrokenPipeError):
            for _ in range(2 * LIMIT // size):
                connection.sendall(b"y" * size)
        assert refused(read_to_end(connection), 431)


def test_an_endless_url_is_414(service: Deployment) -> None:
    assert refused(answer_to(service, b"GET /", b"y" * 3 * LIMIT), 414)


def test_many_headers_are_431_whether_they_end_or_not(service: Deployment) -> None:
    fields = [f"x-{number}: y\r\n".encode() for number in range(200)]
    assert refused(answer_to(service, b"GET / HTTP/1.1\r\n", *fields, b"\r\n"), 431)
    assert refused(answer_to(service, b"GET / HTTP/1.1\r\n", *fields * 30), 431)


def test_the_second_head_of_a_connection_is_bounded_too(service: Deployment) -> None:
    with dial(service.url) as connection:
        connection.sendall(LIVE)
        assert read_answer(connection)[0] == 200
        with suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(b"GET / HTTP/1.1\r\nx: " + b"y" * 3 * LIMIT)
        assert refused(read_to_end(connection), 431)


def test_a_head_of_all_that_is_allowed_is_answered(service: Deployment) -> None:
    fields = {f"x-{number}": "y" * 300 for number in range(90)}
    with dial(service.url) as connection:
        connection.sendall(head("GET", "/health/live", **fields))
        assert read_answer(connection)[0] == 200
        connection.sendall(head("GET", f"/recommend?user_id=u1&cursor={'c' * 16_000}", x_api_key=KEY))
        assert read_answer(connection)[0] == 422, "a long cursor that is none, and no complaint about its length"


@pytest.mark.parametrize("start", [b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nhost: a\r\nx"])
def test_a_head_that_does_not_come_to_its_end_is_408(service: Deployment, start: bytes) -> None:
    assert refused(answer_to(service, start), 408)


def test_slow_heads_leave_everybody_in_peace(service: Deployment, report: Report) -> None:
    with dialled(service.url, 200) as connections, bystanders(service.url, KEY) as people:
        for connection in connections:
            connection.sendall(b"GET / HTTP/1.1\r\nx: ")
        people.go_on(100)
        assert {status_of(read_to_end(connection)) for connection in connections} == {408}
    report("200 heads that do not come to their end", people)
    assert people.keyed_share >= 0.95


@pytest.mark.parametrize(
    "bytes_sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"\x00" * 100,
        b"GARBAGE / HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET http://[::1/ HTTP/1.1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\nx: a\r\n\tb\r\n\r\n",
        b"GET / HTTP/1.1\r\nx: a\x00b\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    ],
)
def test_what_is_not_http_is_a_400_problem(service: Deployment, bytes_sent: bytes) -> None:
    assert refused(answer_to(service, bytes_sent), 400)


@pytest.mark.parametrize(
    "chunks",
    [b"nonsense\r\n", b"fffffffffffffffff\r\n", b"-1\r\n", b"1\r\nxx\r\n", b"1;" + b"e" * 3 * LIMIT],
    ids=["no number", "beyond any number", "negative", "too short", "an endless extension"],
)
def test_chunks_that_are_none_are_a_400_problem(service: Deployment, chunks: bytes) -> None:
    for path, key in (("/recommend", "recommend"), ("/events", "events")):
        begin = head("POST", path, transfer_encoding="chunked", x_api_key=KEYS[key])
        assert refused(answer_to(service, begin, chunks), 400), path


def test_endless_trailers_are_refused_and_a_key_in_them_opens_nothing(service: Deployment) -> None:
    begin = head("POST", "/recommend", transfer_encoding="chunked", x_api_key=KEY) + b"2\r\n{}\r\n0\r\n"
    assert refused(answer_to(service, begin, b"x: ", b"y" * 3 * LIMIT), 400)
    with dial(service.url) as connection:
        connection.sendall(head("POST", "/recommend", transfer_encoding="chunked") + b"2\r\n{}\r\n0\r\n")
        connection.sendall(f"x-api-key: {KEY}\r\n\r\n".encode())
        assert read_answer(connection)[0] == 401


def test_chunks_and_trailers_within_reason_are_read(service: Deployment) -> None:
    begin = head("POST", "/recommend", transfer_encoding="chunked", x_api_key=KEY)
    with dial(service.url) as connection:
        connection.sendall(begin + b"1;why=not\r\n{\r\n1\r\n}\r\n0\r\nx: y\r\n\r\n")
        assert read_answer(connection)[0] == 200
        connection.sendall(LIVE)
        assert read_answer(connection)[0] == 200


def test_requests_sent_ahead_are_answered_up_to_a_limit(service: Deployment) -> None:
    answers = answer_to(service, LIVE * 2000)
    assert 1 < answers.count(b"HTTP/1.1 200") < 100
    assert b"HTTP/1.1 4" not in answers, "the others were not looked at"


@pytest.mark.parametrize("protocol", ["websocket", "h2c"])
def test_an_upgrade_is_declined_and_the_request_answered(service: Deployment, protocol: str) -> None:
    with dial(service.url) as connection:
        asked = head("GET", "/health/live", connection="upgrade", upgrade=protocol, sec_websocket_key="a", x="y")
        connection.sendall(asked + LIVE)
        assert [read_answer(connection)[0] for _ in range(2)] == [200, 200]


def test_a_tunnel_is_refused(service: Deployment) -> None:
    assert status_of(answer_to(service, head("CONNECT", "example.org:443"))) == 400


def test_http_1_0_is_answered_and_closed(service: Deployment) -> None:
    assert status_of(answer_to(service, b"GET /health/live HTTP/1.0\r\n\r\n")) == 200


def test_a_request_behind_a_broken_one_is_not_answered(service: Deployment) -> None:
    answers = answer_to(service, LIVE + b"GARBAGE\r\n\r\n" + LIVE)
    assert answers.count(b"HTTP/1.1 ") == 1


def test_a_thousand_broken_requests_are_a_line_in_the_log(service: Deployment) -> None:
    lines = service.output("serve").count("\n")
    for _ in range(1000):
        answer_to(service, b"GARBAGE\r\n\r\n")

    def counted() -> bool:
        text = httpx.get(f"{service.url}/metrics").text
        return 'millirec_connections_ended_total{cause="malformed"}' in text

    wait_until_sync(counted)
    assert '"cause": "malformed"' in service.output("serve")
    assert service.output("serve").count("\n") - lines < 10
