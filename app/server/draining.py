"""Draining: what lies between SIGTERM and the closing of the port.

Load balancers and keep-alive clients learn that a server leaves only from readiness and from answers. So readiness goes
off first and every answer closes its connection, while new connections are still taken; the server itself closes the
port after that, when nobody is coming any more.
"""

import asyncio
import os
import signal
import socket
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn import Config, Server
from uvicorn.supervisors import Multiprocess

from app.http.problems import problem_response
from app.http.schemas.events import Problem
from app.server.connections import Connections
from app.server.protocol import STATE

log = structlog.get_logger()
READINESS = "/health/ready"
LEAVING = problem_response(
    Problem("Temporarily unavailable", 503, "this process is shutting down"), {"Retry-After": "1"}
)
LAST_WORDS = 2.0
"""Seconds for the last connections to send their first request, before connections without one are closed."""
INTERVAL = 0.1
"""Seconds between two looks for such connections."""
CLOSE = (b"connection", b"close")


class Draining:
    """The application, with a SIGTERM that waits `seconds` before the server gets it; a second one does not wait.

    The server finds the `connections` in the state of the lifespan.
    """

    def __init__(self, app: ASGIApp, seconds: float, connections: Connections) -> None:
        self._app = app
        self._seconds = seconds
        self._connections = connections
        self._leaving: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            scope["state"][STATE] = self._connections
            self._catch_sigterm()
        elif self._leaving is not None and scope["type"] == "http":
            await self._answer_and_close(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _catch_sigterm(self) -> None:
        """Replace the server's handler of SIGTERM; called once the server has set it."""
        stop = signal.getsignal(signal.SIGTERM)
        server = getattr(stop, "__self__", None)
        if not isinstance(server, Server):
            return
        loop = asyncio.get_running_loop()

        def drain(number: int, frame: FrameType | None) -> None:
            """Begin to drain at the first signal, pass on any later one to the server."""
            if not server.started:
                leave_unstarted(server)
            elif self._leaving is None:
                self._leaving = loop.create_task(self._leave(server))
            else:
                server.handle_exit(number, frame)

        signal.signal(signal.SIGTERM, drain)
        if server.should_exit:
            leave_unstarted(server)

    async def _leave(self, server: Server) -> None:
        log.info("draining", seconds=self._seconds)
        try:
            await asyncio.sleep(self._seconds)
            await self._take_in(server)
        except Exception:
            log.exception("draining failed")
        finally:
            server.handle_exit(signal.SIGTERM, None)

    async def _take_in(self, server: Server) -> None:
        """Close the port, and wait for the first requests of the connections that were made in time."""
        loop = asyncio.get_running_loop()
        for connection in close_ports(server):
            try:
                await loop.connect_accepted_socket(partial(protocol_of, server), connection)
            except OSError:  # its peer has gone already
                connection.close()
        for _ in range(round(LAST_WORDS / INTERVAL)):
            await asyncio.sleep(INTERVAL)
            if not self._connections.expectant:
                break

    async def _answer_and_close(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def closing_send(message: Message) -> None:
            """Send a message, and close the connection after the answer."""
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), CLOSE]}
            await send(message)

        app = LEAVING if scope["path"] == READINESS else self._app
        await app(scope, receive, closing_send)


def close_ports(server: Server) -> list[socket.socket]:
    """Stop listening. Returns the connections that the system accepted in between, since it would reset them."""
    queued: list[socket.socket] = []
    for listener in server.servers:
        ports = [socket.socket(fileno=os.dup(server_socket.fileno())) for server_socket in listener.sockets]
        listener.close()
        for port in ports:
            with port, suppress(BlockingIOError):
                while True:
                    queued.append(port.accept()[0])
    for connection in queued:
        connection.setblocking(False)
    return queued


def protocol_of(server: Server) -> Any:
    """Return a protocol as the server makes one for each connection."""
    protocol_class: Any = server.config.http_protocol_class
    return protocol_class(config=server.config, server_state=server.server_state, app_state=server.lifespan.state)


class WorkerConfig(Config):
    """The configuration of worker processes, which end at once at a SIGTERM that comes while they start.

    Going on, they would keep the shared port open after the workers that accept, and reset the connections that it
    queues when they close it.
    """

    def load(self) -> None:
        """Import and build the application; the server's handler of SIGTERM stands back meanwhile."""
        stop = signal.signal(signal.SIGTERM, signal.SIG_DFL)
        super().load()
        signal.signal(signal.SIGTERM, stop)


def leave_unstarted(server: Server) -> None:
    """End a server that does not accept connections yet: a worker at once, another when it has started."""
    if isinstance(server.config, WorkerConfig):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)
    server.handle_exit(signal.SIGTERM, None)


class Workers(Multiprocess):
    """Worker processes on one port, which closes when all of them are told to end.

    Left open in this process, it would go on queueing connections that no worker accepts.
    """

    def __init__(self, config: WorkerConfig) -> None:
        super().__init__(config, [config.bind_socket()])

    def terminate_all(self) -> None:
        """Terminate all workers and close the port."""
        super().terminate_all()
        for listener in self.sockets:
            listener.close()
