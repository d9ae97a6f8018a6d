"""A drain that fails still ends in the end of the server."""

import os
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from uvicorn import Config, Server
from uvicorn.supervisors.multiprocess import Process

from app.server import draining
from app.server.connections import Connections
from app.server.draining import Draining, WorkerConfig
from app.server.limits import Limits
from tests.environment.waiting import WaitUntil, wait_until_sync

SIGN = "SIGN_OF_A_STARTING_WORKER"


async def test_a_drain_that_fails_ends_the_server_all_the_same(
    monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil
) -> None:
    async def nothing(*_: Any) -> Any:
        """Receive, send and answer."""

    def broken(_: Server) -> list[Any]:
        raise OSError("no such port")

    monkeypatch.setattr(draining, "close_ports", broken)
    server = Server(Config(nothing))
    server.started = True
    previous = signal.signal(signal.SIGTERM, server.handle_exit)
    try:
        await Draining(nothing, 0.0, Connections(Limits()))({"type": "lifespan", "state": {}}, nothing, nothing)
        signal.raise_signal(signal.SIGTERM)
        await wait_until(lambda: server.should_exit)
    finally:
        signal.signal(signal.SIGTERM, previous)


def never_built() -> Draining:
    """Give a sign, and never return the application."""
    Path(os.environ[SIGN]).touch()
    threading.Event().wait()
    raise AssertionError


def never_started() -> Draining:
    """Build an application that gives a sign and never completes its lifespan startup."""

    async def app(*_: Any) -> None:
        never_built()

    return Draining(app, 0.0, Connections(Limits()))


@pytest.mark.parametrize("build", [never_built, never_started])
def test_a_worker_told_to_end_while_it_starts_ends_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, build: Any
) -> None:
    sign = tmp_path / "starting"
    monkeypatch.setenv(SIGN, str(sign))
    config = WorkerConfig(f"{__name__}:{build.__name__}", factory=True, workers=2, log_config=None)
    with socket.create_server(("127.0.0.1", 0)) as port:
        worker = Process(config, [port])
        worker.start()
        try:
            wait_until_sync(sign.exists, 60.0)
            worker.terminate()
            worker.process.join(10)
            assert worker.exitcode == -signal.SIGTERM
        finally:
            worker.process.kill()
            worker.join()
