"""Strangers before the consumers' metrics: they are few at a time, and none stays."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx
import pytest

from ingest import metrics as served
from ingest.metrics import MISKEYED
from recsys.errors import InvalidInput
from tests.environment.deployment import free_port

PATIENCE = 30.0


@pytest.fixture
async def port() -> AsyncIterator[int]:
    chosen = free_port()
    async with served.metrics_server("127.0.0.1", chosen):
        yield chosen


async def connected(port: int, stack: AsyncExitStack) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    stack.callback(writer.close)
    return reader, writer


async def exposition(port: int) -> httpx.Response:
    async with httpx.AsyncClient(timeout=PATIENCE) as scraper:
        return await scraper.get(f"http://127.0.0.1:{port}/metrics")


async def test_beside_two_hundred_silent_connections_the_metrics_are_read(port: int) -> None:
    threads = threading.active_count()
    async with AsyncExitStack() as stack:
        silent = [await connected(port, stack) for _ in range(200)]
        assert (await exposition(port)).status_code == 200
        first, _ = silent[0]
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(first.readexactly(1), PATIENCE)
        assert threading.active_count() <= threads + 8, "no thread for each of them"


@pytest.mark.parametrize("sent", [b"", b"GET /metrics HTTP/1.1\r\nx: y"], ids=["nothing", "half a head"])
async def test_who_says_too_little_is_closed(monkeypatch: pytest.MonkeyPatch, port: int, sent: bytes) -> None:
    monkeypatch.setattr(served, "SECONDS", 0.2)
    async with AsyncExitStack() as stack:
        reader, writer = await connected(port, stack)
        writer.write(sent)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(reader.readexactly(1), PATIENCE)


async def test_an_endless_head_is_closed(port: int) -> None:
    async with AsyncExitStack() as stack:
        reader, writer = await connected(port, stack)
        writer.write(b"GET / HTTP/1.1\r\nx: " + b"y" * 4 * served.MAX_HEAD)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(reader.readexactly(1), PATIENCE)


async def test_the_text_is_made_once_for_all_who_ask_meanwhile(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    monkeypatch.setattr(served, "INTERVAL", 1000.0)
    before = (await exposition(port)).text
    MISKEYED.labels("a group of this test").inc()
    answers = await asyncio.gather(*(exposition(port) for _ in range(20)))
    assert {answer.text for answer in answers} == {before}


async def test_only_reading_is_allowed(port: int) -> None:
    async with httpx.AsyncClient(timeout=PATIENCE) as client:
        assert (await client.head(f"http://127.0.0.1:{port}/metrics")).headers["content-length"] != "0"
        assert (await client.post(f"http://127.0.0.1:{port}/metrics")).status_code == 405


async def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InvalidInput, match=r"ingest\.metrics_port: .* cannot be listened on"):
            async with served.metrics_server("127.0.0.1", taken.getsockname()[1]):
                pass
