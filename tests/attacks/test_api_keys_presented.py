"""A key is found however a client or a proxy presents it, and nothing but a key opens the door."""

import socket
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from recsys.settings import StoreSettings
from tests.attacks.conftest import KEYS, keyed_environment
from tests.environment.deployment import Deployment, deployed
from tests.environment.fixtures import with_versions

KEY = KEYS["recommend"].encode()
RIGHT = (
    [(b"X-API-Key", KEY)],
    [(b"X-API-Key", b" \t" + KEY + b"\t ")],
    [(b"X-API-Key", b""), (b"Authorization", b"Bearer " + KEY)],
    [(b"X-API-Key", b"  "), (b"Authorization", b"bearer   " + KEY + b" ")],
    [(b"Authorization", b"Bearer " + KEY), (b"X-API-Key", b"")],
    [(b"X-API-Key", b""), (b"X-API-Key", KEY)],
    [(b"Authorization", b"Basic dTpw"), (b"Authorization", b"Bearer " + KEY)],
    [(b"Authorization", b"Bearer"), (b"Authorization", b"Bearer " + KEY)],
)
WRONG: tuple[list[tuple[bytes, bytes]], ...] = (
    [],
    [(b"X-API-Key", b"")],
    [(b"X-API-Key", b"\xff\xfe\x80")],
    [(b"X-API-Key", "schlüssel".encode())],
    [(b"X-API-Key", b"wrong"), (b"X-API-Key", KEY)],
    [(b"X-API-Key", b"wrong"), (b"Authorization", b"Bearer " + KEY)],
    [(b"X-API-Key", KEY[:-1])],
    [(b"X-API-Key", KEY[:10] + b" " + KEY[10:])],
    [(b"Authorization", b"Bearer")],
    [(b"Authorization", KEY)],
)


@pytest.fixture(scope="module")
def service(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    store = StoreSettings(url=SecretStr(valkey_url), prefix="presented:", read_timeout=2.0, timeout=10.0)
    with deployed(store, tmp_path_factory.mktemp("presented"), keyed_environment()) as made:
        with_versions(made).serve()
        yield made


def status(service: Deployment, path: bytes, headers: list[tuple[bytes, bytes]]) -> int:
    lines = [b"GET %s HTTP/1.1" % path, b"Host: localhost", b"Connection: close"]
    lines += [b"%s: %s" % header for header in headers]
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(b"\r\n".join([*lines, b"", b""]))
        return int(connection.makefile("rb").readline().split()[1])


@pytest.mark.parametrize("headers", RIGHT)
def test_the_first_key_that_is_not_empty_counts(service: Deployment, headers: list[tuple[bytes, bytes]]) -> None:
    for path in (b"/recommend?user_id=u1", b"/popular"):
        assert status(service, path, headers) == 200


@pytest.mark.parametrize("headers", WRONG)
def test_anything_else_is_401(service: Deployment, headers: list[tuple[bytes, bytes]]) -> None:
    for path in (b"/recommend?user_id=u1", b"/popular"):
        assert status(service, path, headers) == 401
