"""A drain that fails still ends in the end of the server."""

import signal
from typing import Any

import pytest
from uvicorn import Config, Server

from app.server import draining
from app.server.connections import Connections
from app.server.draining import Draining
from app.server.limits import Limits
from tests.environment.waiting import WaitUntil


async def test_a_drain_that_fails_ends_the_server_all_the_same(
    monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil
) -> None:
    async def nothing(*_: Any) -> Any:
        """Receive, send and answer."""

    def broken(_: Server) -> list[Any]:
        raise OSError("no such port")

    monkeypatch.setattr(draining, "close_ports", broken)
    server = Server(Config(nothing))
    previous = signal.signal(signal.SIGTERM, server.handle_exit)
    try:
        await Draining(nothing, 0.0, Connections(Limits()))({"type": "lifespan", "state": {}}, nothing, nothing)
        signal.raise_signal(signal.SIGTERM)
        await wait_until(lambda: server.should_exit)
    finally:
        signal.signal(signal.SIGTERM, previous)
