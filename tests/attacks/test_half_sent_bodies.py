"""Half-sent bodies: whoever has no key is not waited for, and whoever has one is waited for at nobody's expense."""

import json
from collections.abc import Iterator

import httpx
import pytest

from recsys.settings import StoreSettings
from tests.attacks.bystanders import bystanders
from tests.attacks.conftest import KEYS, Report, keyed_environment
from tests.attacks.wire import dial, dialled, head, read_answer, read_to_end, send_for_ever, status_of
from tests.environment.deployment import Deployment, deployed
from tests.environment.fixtures import with_versions

BODY_TIMEOUT = 2.0


@pytest.fixture(scope="module")
def service(module_store: StoreSettings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    extra = {
        **keyed_environment(),
        "MILLIREC_SERVE__BODY_TIMEOUT": str(BODY_TIMEOUT),
        "MILLIREC_SERVE__MAX_BODIES_BYTES": "65536",
    }
    with deployed(module_store, tmp_path_factory.mktemp("half-sent"), extra) as made:
        with_versions(made).serve()
        yield made


def routes_with_bodies(url: str) -> list[tuple[str, str]]:
    """Of the documentation, and those that never read one besides."""
    paths = httpx.get(f"{url}/openapi.json").json()["paths"]
    return [
        (method.upper(), path.replace("{", "").replace("}", ""))
        for path, operations in paths.items()
        for method in operations
        if method in {"post", "put", "delete"}
    ]


def test_without_a_key_every_route_refuses_at_the_head_and_closes(service: Deployment) -> None:
    routes = routes_with_bodies(service.url)
    assert len(routes) > 15
    for method, path in routes:
        with dial(service.url) as connection:
            connection.sendall(head(method, path, content_length=100) + b"{")
            status, headers, _ = read_answer(connection)
            assert (status, headers["connection"]) == (401, "close"), f"{method} {path}"
            assert connection.recv(1) == b"", "the service is done with it"


def test_the_wrong_scope_is_refused_at_the_head_too(service: Deployment) -> None:
    with dial(service.url) as connection:
        key = KEYS["events"]
        connection.sendall(head("POST", "/recommend", content_length=100, x_api_key=key) + b"{")
        assert status_of(read_to_end(connection)) == 403


def test_a_client_that_sends_all_of_a_refused_body_still_reads_the_answer(service: Deployment) -> None:
    for size in (10, 100_000, 1_000_000):
        answer = httpx.post(f"{service.url}/events", content=b"x" * size)
        assert answer.status_code == 401


def test_a_refused_body_that_never_ends_is_cut_off(service: Deployment) -> None:
    with dial(service.url) as connection:
        connection.sendall(head("POST", "/events", content_length=10**12))
        with pytest.raises(OSError, match=r"reset|Broken pipe|aborted"):
            send_for_ever(connection, b"x" * 65_536)


def test_keyed_requests_are_answered_while_half_sent_bodies_are_held(service: Deployment, report: Report) -> None:
    with dialled(service.url, 64) as connections, bystanders(service.url, KEYS["recommend"]) as people:
        for place, connection in enumerate(connections):
            key = {"x_api_key": KEYS["recommend"]} if place % 2 else {}
            connection.sendall(head("POST", "/recommend", content_length=100, **key) + b"{")
        people.go_on(100)
    report("64 half-sent bodies, half of them with a key", people)
    assert people.keyed_share >= 0.95


def test_a_body_that_does_not_come_is_408(service: Deployment) -> None:
    routes = (
        ("POST", "/recommend", "recommend"),
        ("POST", "/recommend/batch", "recommend"),
        ("POST", "/events", "events"),
        ("PUT", "/placements/mine", "admin"),
    )
    with dialled(service.url, len(routes)) as connections:
        for connection, (method, path, key) in zip(connections, routes, strict=True):
            connection.sendall(head(method, path, content_length=100, x_api_key=KEYS[key]) + b"{")
        for connection, route in zip(connections, routes, strict=True):
            answer = read_to_end(connection)
            assert status_of(answer) == 408, route
            assert b"application/problem+json" in answer


def test_a_body_that_comes_drop_by_drop_is_408_all_the_same(service: Deployment) -> None:
    with dial(service.url) as connection:
        connection.sendall(head("POST", "/events", content_length=1000, x_api_key=KEYS["events"]))
        connection.settimeout(0.05)
        answer = b""
        for _ in range(1000):
            connection.sendall(b" ")
            try:
                answer = connection.recv(65_536)
                break
            except TimeoutError:
                continue
        assert status_of(answer) == 408


@pytest.mark.parametrize("expect", [{}, {"expect": "100-continue"}])
def test_a_body_that_is_announced_too_large_is_413_before_a_byte_of_it(
    service: Deployment, expect: dict[str, str]
) -> None:
    for path, key in (("/recommend", "recommend"), ("/events", "events")):
        with dial(service.url) as connection:
            connection.sendall(head("POST", path, content_length=10**9, x_api_key=KEYS[key], **expect))
            assert status_of(read_to_end(connection)) == 413


def test_nobody_is_told_to_continue_without_a_key(service: Deployment) -> None:
    with dial(service.url) as connection:
        connection.sendall(head("POST", "/recommend", content_length=10, expect="100-continue"))
        assert status_of(read_to_end(connection)) == 401


def test_with_a_key_the_body_is_asked_for_and_answered(service: Deployment) -> None:
    body = json.dumps({"user_id": "u1"}).encode()
    with dial(service.url) as connection:
        fields = {"content_length": len(body), "x_api_key": KEYS["recommend"], "expect": "100-continue"}
        connection.sendall(head("POST", "/recommend", **fields))
        assert status_of(connection.recv(25)) == 100
        connection.sendall(body)
        assert read_answer(connection)[0] == 200


def test_a_get_that_announces_a_body_is_answered_and_not_waited_for(service: Deployment) -> None:
    with dial(service.url) as connection:
        connection.sendall(head("GET", "/health/live", content_length=100))
        assert status_of(read_to_end(connection)) == 200


def test_bodies_under_way_are_bounded_together(service: Deployment) -> None:
    with dialled(service.url, 3) as connections:
        for connection in connections:
            connection.sendall(head("POST", "/events", content_length=50_000, x_api_key=KEYS["events"]))
            connection.sendall(b" " * 40_000)
        assert sorted(status_of(read_to_end(connection)) for connection in connections) == [408, 503, 503]


def test_the_bodies_of_one_key_leave_room_for_those_of_another(service: Deployment) -> None:
    with dialled(service.url, 2) as connections:
        for connection, size in zip(connections, (40_000, 20_000), strict=True):
            connection.sendall(head("POST", "/events", content_length=50_000, x_api_key=KEYS["events"]) + b" " * size)
        assert status_of(read_to_end(connections[1])) == 503, "the last quarter is for others"
        answer = httpx.post(
            f"{service.url}/recommend",
            content=b'{"user_id": "u1"}' + b" " * 10_000,
            headers={"X-API-Key": KEYS["recommend"]},
        )
        assert answer.status_code == 200
