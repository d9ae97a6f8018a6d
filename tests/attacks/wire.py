"""Raw connections: what no HTTP client would send, and everything that comes back."""

import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from urllib.parse import urlsplit

PATIENCE = 30.0
"""Seconds for the service to say or end something; far more than it may take."""


def dial(url: str, timeout: float = PATIENCE) -> socket.socket:
    """A connection to the service."""
    address = urlsplit(url)
    return socket.create_connection((address.hostname, address.port), timeout)


@contextmanager
def dialled(url: str, count: int) -> Iterator[list[socket.socket]]:
    """So many connections, for the length of the block."""
    with ExitStack() as stack:
        yield [stack.enter_context(dial(url)) for _ in range(count)]


def head(method: str, path: str, **headers: object) -> bytes:
    """The head of a request; `content_length=3` becomes `content-length: 3`."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in {"host": "attack", **headers}.items()]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "\r\n"]).encode()


def send_for_ever(connection: socket.socket, data: bytes) -> None:
    """Until the service ends it. Raises `OSError`."""
    while True:
        connection.sendall(data)


def read_to_end(connection: socket.socket) -> bytes:
    """All that comes until the service closes the connection; fails when it does not."""
    parts: list[bytes] = []
    with suppress(ConnectionResetError):
        while part := connection.recv(65_536):
            parts.append(part)
    return b"".join(parts)


def read_answer(connection: socket.socket) -> tuple[int, Mapping[str, str], bytes]:
    """Status, headers and body of one answer, of which the connection may well live on."""
    stream = connection.makefile("rb", buffering=0)
    status = int(stream.readline().split()[1])
    headers = {}
    while line := stream.readline().strip():
        name, _, value = line.decode().partition(": ")
        headers[name.lower()] = value
    size, body = int(headers.get("content-length", 0)), b""
    while len(body) < size:
        body += stream.read(size - len(body)) or b""
    return status, headers, body


def status_of(answers: bytes) -> int:
    """Of the first answer; 0 where the connection ended without one."""
    return int(answers.split(b" ", 2)[1]) if answers.startswith(b"HTTP/1.1 ") else 0
